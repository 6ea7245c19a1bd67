"""What a person wrote, read from where it lies: files, mail, exports, chats, repositories, the web."""

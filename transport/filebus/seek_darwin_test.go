package filebus

const seekData = 4 // SEEK_DATA: the next byte that is on disk

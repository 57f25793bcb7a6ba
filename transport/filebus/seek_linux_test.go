package filebus

const seekData = 3 // SEEK_DATA: the next byte that is on disk

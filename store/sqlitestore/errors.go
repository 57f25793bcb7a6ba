package sqlitestore

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// A remedied error is one of SQLite's with what helps against it.
type remedied struct {
	error
	remedy string
}

func (e remedied) Error() string { return e.error.Error() + ": " + e.remedy }
func (e remedied) Unwrap() error { return e.error }

// fail wraps an error with what was being done and, where there is one, with
// the remedy.
func fail(doing string, err error) error {
	if err == nil {
		return nil
	}
	if remedy := remedyFor(err); remedy != "" {
		err = remedied{err, remedy}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// codeOf is SQLite's primary code of an error (https://www.sqlite.org/rescode.html), 0
// for an error of something else.
func codeOf(err error) int {
	var failure *sqlite.Error
	if !errors.As(err, &failure) {
		return sqlite3.SQLITE_OK
	}
	return failure.Code() & 0xff
}

// remedyFor says what helps, once for each error.
func remedyFor(err error) string {
	var has remedied
	if errors.As(err, &has) {
		return ""
	}
	switch codeOf(err) {
	case sqlite3.SQLITE_BUSY:
		return "another process, or a statement of DB, writes to the file for longer than Options.Busy: look for a transaction there that waits for something else, or raise Options.Busy"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN:
		return "this user needs to read and write the file and its directory"
	case sqlite3.SQLITE_FULL:
		return "the disk or quota is full: free space and run the transaction again"
	case sqlite3.SQLITE_NOTADB:
		return "look at the path; or restore the file from a backup, without the -wal and -shm beside it"
	case sqlite3.SQLITE_CORRUPT:
		return "the file is damaged: restore it from a backup, without the -wal and -shm beside it"
	case sqlite3.SQLITE_IOERR:
		return "look at the disk: the file has to be on a local one"
	}
	return ""
}

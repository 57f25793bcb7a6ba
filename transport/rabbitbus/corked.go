package rabbitbus

import (
	"bufio"
	"net"
	"sync"
	"time"
)

// corkBytes is how much a corked connection gathers before it writes all the same.
const corkBytes = 32 << 10

// readBytes is how much is read ahead.
const readBytes = 64 << 10

// A corkedConn is the socket under the client. The client blocks for ever in a write
// that the peer does not read, with its locks held, and nothing but the
// socket's own deadline ends that: each write gets one. One that is corked
// gathers what is written, so that the frames of a batch share a system call
// where the client alone makes one for each message; it reads ahead for the
// same reason.
type corkedConn struct {
	net.Conn
	in       *bufio.Reader
	patience time.Duration // of one write

	mu     sync.Mutex
	buf    []byte
	corked int
	err    error
}

func newCorkedConn(conn net.Conn, patience time.Duration) *corkedConn {
	return &corkedConn{Conn: conn, in: bufio.NewReaderSize(conn, readBytes), patience: patience}
}

// Read reads what has come. It is called by one goroutine at a time.
func (w *corkedConn) Read(p []byte) (int, error) { return w.in.Read(p) }

// Write writes p, or keeps it until it is uncorked.
func (w *corkedConn) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	if w.corked == 0 && len(w.buf) == 0 {
		return len(p), w.write(p)
	}
	w.buf = append(w.buf, p...)
	if w.corked == 0 || len(w.buf) >= corkBytes {
		return len(p), w.flush()
	}
	return len(p), nil
}

func (w *corkedConn) write(p []byte) error {
	if w.err = w.SetWriteDeadline(time.Now().Add(w.patience)); w.err == nil {
		_, w.err = w.Conn.Write(p)
	}
	if w.err != nil {
		_ = w.Conn.Close() // the client's reader ends, and tells everybody
	}
	return w.err
}

func (w *corkedConn) flush() error {
	err := w.write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// cork begins to gather. Each cork is followed by an uncork.
func (w *corkedConn) cork() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.corked++
}

// uncork writes what was gathered, also that of others who have corked
// the connection: nobody waits for their end.
func (w *corkedConn) uncork() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.corked--
	if len(w.buf) > 0 && w.err == nil {
		_ = w.flush() // kept in w.err; the link ends with it
	}
}

// kill ends the socket at once, without a lock that a blocked write may hold.
func (w *corkedConn) kill() { _ = w.Conn.Close() }

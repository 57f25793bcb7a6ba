package filebus

import (
	"encoding/binary"
	"os"
	"sync"
	"syscall"
)

// A watcher rings notifiers when other processes write to files. Without inotify
// (a system that has none left, a file system that does not tell) receivers
// poll.
type watcher struct {
	f    *os.File
	done chan struct{}

	mu        sync.Mutex
	notifiers map[int32]*notifier
	ids       map[*notifier]int32
}

func newWatcher() *watcher {
	w := &watcher{notifiers: map[int32]*notifier{}, ids: map[*notifier]int32{}, done: make(chan struct{})}
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		close(w.done)
		return w
	}
	w.f = os.NewFile(uintptr(fd), "inotify")
	go w.run()
	return w
}

// works reports whether b is notified for what others do.
func (w *watcher) works(b *notifier) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.ids[b]
	return ok
}

// add rings b for every write to the file, until remove.
func (w *watcher) add(path string, b *notifier) {
	if w.f == nil {
		return
	}
	conn, err := w.f.SyscallConn()
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.ids[b]; ok {
		return
	}
	conn.Control(func(fd uintptr) {
		if id, err := syscall.InotifyAddWatch(int(fd), path, syscall.IN_MODIFY); err == nil {
			w.notifiers[int32(id)], w.ids[b] = b, int32(id)
		}
	})
}

func (w *watcher) remove(b *notifier) {
	if w.f == nil {
		return
	}
	conn, err := w.f.SyscallConn()
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if id, ok := w.ids[b]; ok {
		delete(w.ids, b)
		delete(w.notifiers, id)
		conn.Control(func(fd uintptr) { syscall.InotifyRmWatch(int(fd), uint32(id)) })
	}
}

func (w *watcher) run() {
	defer close(w.done)
	buf := make([]byte, 4096)
	for {
		n, err := w.f.Read(buf)
		if err != nil {
			return
		}
		for b := buf[:n]; len(b) >= syscall.SizeofInotifyEvent; {
			id := int32(binary.NativeEndian.Uint32(b))
			mask := binary.NativeEndian.Uint32(b[4:])
			b = b[min(len(b), syscall.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[12:]))):]
			w.mu.Lock()
			if mask&syscall.IN_Q_OVERFLOW != 0 {
				for _, n := range w.notifiers {
					n.notify()
				}
			} else if n := w.notifiers[id]; n != nil {
				n.notify()
			}
			w.mu.Unlock()
		}
	}
}

func (w *watcher) close() error {
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	<-w.done
	return err
}

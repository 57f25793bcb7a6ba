//go:build !linux

package filebus

// A watcher would ring notifiers when other processes write to files; here
// receivers poll.
type watcher struct{}

func newWatcher() *watcher               { return &watcher{} }
func (w *watcher) works(*notifier) bool  { return false }
func (w *watcher) add(string, *notifier) {}
func (w *watcher) remove(*notifier)      {}
func (w *watcher) close() error          { return nil }

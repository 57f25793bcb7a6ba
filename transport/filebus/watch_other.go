//go:build !linux

package filebus

// A watcher would ring bells when other processes write to files; here
// receivers poll.
type watcher struct{}

func newWatcher() *watcher           { return &watcher{} }
func (w *watcher) works(*bell) bool  { return false }
func (w *watcher) add(string, *bell) {}
func (w *watcher) remove(*bell)      {}
func (w *watcher) close() error      { return nil }

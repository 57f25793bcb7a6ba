package verify

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// A diary is a file that outcomes are appended to, each in one write, so that
// what was written survives the process.
type diary struct {
	mu   sync.Mutex
	file *os.File
	err  error // of the first outcome that could not be written
	lost int64 // how many could not
}

func openDiary(path string) (*diary, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &diary{file: f}, nil
}

func (d *diary) write(o Outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := fmt.Fprintf(d.file, "%s\t%d\t%s\n", o.Tx, o.Messages, o.Result); err != nil {
		d.err = cmp.Or(d.err, err)
		d.lost++
	}
}

// missing is how many outcomes could not be written.
func (d *diary) missing() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

func (d *diary) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(d.err, d.file.Close())
}

// readDiary calls f for each outcome in a file; a last line that was cut off is
// passed over.
func readDiary(path string, f func(Outcome)) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		var o Outcome
		if !strings.HasSuffix(line, "\n") {
			break
		}
		tx, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		count, result, ok := strings.Cut(rest, "\t")
		if _, err := fmt.Sscan(count, &o.Messages); err != nil || !ok {
			return fmt.Errorf("read %s: line %q is no outcome", path, line)
		}
		o.Tx, o.Result = tx, Result(result)
		f(o)
	}
	return nil
}

package servers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// A server in the background outlives the process that started it. What has to
// be known of it is in a file of the cache directory, one per kind.
type background struct {
	Dir     string
	Ports   map[string]int
	Pid     int    // 0 when it was told to end
	Born    string // of the process: another one with its number is not touched
	Version string
	Nodes   int `json:",omitempty"` // how many the cluster of this node has; 0 for a server by itself
	Node    int `json:",omitempty"` // which of them it is, from 0
}

func backgroundDir() (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "up")
	return dir, os.MkdirAll(dir, 0o755)
}

// backgroundPorts returns the ports of all servers in the background, whether
// they run or not.
func backgroundPorts() (ports []int, err error) {
	dir, err := backgroundDir()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		b, err := load(strings.TrimSuffix(filepath.Base(file), ".json"))
		if err != nil {
			return nil, err
		}
		if b != nil {
			ports = slices.AppendSeq(ports, maps.Values(b.Ports))
		}
	}
	return ports, nil
}

// save writes what attach reads. A server that is not detached has no file.
func (s *Server) save() error {
	if !s.detached {
		return nil
	}
	dir, err := backgroundDir()
	if err != nil {
		return err
	}
	b := background{Dir: s.in.Dir, Ports: s.in.Ports, Version: s.version, Nodes: len(s.in.Nodes), Node: s.in.Node}
	if s.proc != nil {
		b.Pid, b.Born = s.proc.pid, s.proc.born
	}
	text, err := json.MarshalIndent(b, "", "\t")
	if err != nil {
		return err
	}
	name := filepath.Join(dir, s.name+".json")
	if err := os.WriteFile(name+".new", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// forget removes what save wrote.
func (s *Server) forget() error {
	if !s.detached {
		return nil
	}
	dir, err := backgroundDir()
	if err != nil {
		return err
	}
	if err = os.Remove(filepath.Join(dir, s.name+".json")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// load reads what save wrote of the server of that name; nil where there is none.
func load(name string) (*background, error) {
	dir, err := backgroundDir()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b := &background{}
	if err := json.Unmarshal(text, b); err != nil {
		return nil, fmt.Errorf("read the state of %s: %w; remove the file if nothing of it runs", name, err)
	}
	return b, nil
}

// attach returns the kind's server of that name in the background, or nil where
// there is none.
func attach(k Kind, name string) (*Server, error) {
	b, err := load(name)
	if err != nil || b == nil {
		return nil, err
	}
	s := &Server{kind: k, name: name, in: Instance{Dir: b.Dir, Ports: b.Ports, Node: b.Node}, version: b.Version, detached: true}
	if b.Pid != 0 {
		s.proc = &process{pid: b.Pid, born: b.Born}
	}
	return s, nil
}

// ErrNotThere is wrapped by what Background returns for a kind that Up has not
// started.
var ErrNotThere = errors.New("is not in the background")

// Background returns the kind's server in the background and has the others
// that work with it wait until done is called. Without one the error is
// ErrNotThere.
func Background(ctx context.Context, k Kind) (s *Server, done func(), err error) {
	if done, err = lockBackground(ctx, k); err != nil {
		return nil, nil, err
	}
	if s, err = attach(k, k.Name()); err == nil && s == nil {
		err = fmt.Errorf("%s %w: start it with up %s", k.Name(), ErrNotThere, k.Name())
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return s, done, nil
}

// Up starts servers in the background, all at once, and returns when they
// answer. One that is there already is left as it is, or started again on its
// data when it does not answer. The error names those that cannot be had; the
// others go on. Report is called as it goes, by one goroutine at a time.
func Up(ctx context.Context, kinds []Kind, report func(k Kind, doing string)) error {
	var mu sync.Mutex
	errs := make([]error, len(kinds))
	var wg sync.WaitGroup
	for i, k := range kinds {
		wg.Go(func() {
			errs[i] = up(ctx, k, func(doing string) {
				mu.Lock()
				defer mu.Unlock()
				report(k, doing)
			})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func up(ctx context.Context, k Kind, report func(doing string)) error {
	if !k.Installed() {
		report("install")
		if err := Install(ctx, k); err != nil {
			return err
		}
	}
	unlock, err := lockBackground(ctx, k)
	if err != nil {
		return err
	}
	defer unlock()
	if c, err := attachCluster(k); err != nil {
		return err
	} else if c != nil {
		return fmt.Errorf("%s is up as a cluster: end it with down %s", k.Name(), k.Name())
	}
	s, err := attach(k, k.Name())
	if err != nil {
		return err
	}
	if s != nil && !isDir(s.in.Dir) { // its data is gone, with a restart of the machine
		if err := s.Close(); err != nil {
			return err
		}
		s = nil
	}
	switch {
	case s == nil:
		report("start")
		s, err = launch(ctx, k, true)
	case s.Answers(ctx) != nil:
		report("start again")
		err = s.Restart(ctx)
	}
	if err != nil {
		return err
	}
	report("ready at " + s.URL())
	return nil
}

// Answers returns nil when the server would serve a client now.
func (s *Server) Answers(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || !s.proc.alive() {
		return errors.New("it is down")
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	_, err := s.kind.Probe(ctx, &s.in)
	return err
}

// EnvName returns the environment variable that the program's env command
// gives the kind's URL in.
func EnvName(k Kind) string { return "DOVETAIL_" + strings.ToUpper(k.Name()) + "_URL" }

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

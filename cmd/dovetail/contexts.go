package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// contexts is the file that names brokers and stores.
type contexts struct {
	path    string
	Current string               `json:"current,omitempty"`
	Named   map[string]placement `json:"contexts"`
}

// A placement is where a system's messages and state are.
type placement struct {
	Broker string `json:"broker,omitempty"`
	Store  string `json:"store,omitempty"`
}

func loadContexts() (*contexts, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("find the configuration directory: %w", err)
	}
	c := &contexts{path: filepath.Join(dir, "dovetail", "contexts.json"), Named: map[string]placement{}}
	b, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		err = json.Unmarshal(b, c)
	}
	if err != nil {
		return nil, fmt.Errorf("read contexts: %s: %w: correct the file or remove it", c.path, err)
	}
	if c.Named == nil {
		c.Named = map[string]placement{}
	}
	// One that an older version or another program wrote: it may hold passwords.
	if info, err := os.Stat(c.path); err == nil && info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		if err := os.Chmod(c.path, 0o600); err != nil {
			return nil, fmt.Errorf("contexts: others may read %s, which may hold passwords: %w: give it the rights 0600", c.path, err)
		}
	}
	return c, nil
}

// save replaces the file, which may hold passwords, for this user's eyes only.
func (c *contexts) save() error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
		return fmt.Errorf("save contexts: %w", err)
	}
	next := c.path + ".next"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) { // a file that is there keeps its rights
		return fmt.Errorf("save contexts: %w", err)
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("save contexts: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("save contexts: %w", err)
	}
	if err := os.Rename(next, c.path); err != nil {
		return fmt.Errorf("save contexts: %w", err)
	}
	return nil
}

func (c *contexts) names() []string {
	all := make([]string, 0, len(c.Named))
	for name := range c.Named {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func (c *contexts) get(name string) (placement, error) {
	p, ok := c.Named[name]
	if ok {
		return p, nil
	}
	have := "there are none: name one with dovetail context set"
	if len(c.Named) > 0 {
		have = "there are " + strings.Join(c.names(), ", ")
	}
	return p, misuse("context %q does not exist (%s)", name, have)
}

// placement is what --context, or else the current context, says.
func (a *app) placement() (placement, error) {
	c, err := loadContexts()
	if err != nil {
		return placement{}, err
	}
	name := a.context
	if name == "" {
		name = os.Getenv("DOVETAIL_CONTEXT")
	}
	if name == "" {
		name = c.Current
	}
	if name == "" {
		return placement{}, nil
	}
	return c.get(name)
}

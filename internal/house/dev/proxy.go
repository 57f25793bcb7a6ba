package main

import (
	"archive/zip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A proxy is a module proxy made of files, as "go help goproxy" describes it.
type proxy struct {
	dir  string
	root string // path of the modules that it serves
}

func newProxy(dir, root string) *proxy { return &proxy{dir, root} }

// env is the environment of go commands that see the proxy's modules as if they
// were published. The module cache is a new one, below tmp, so that what is
// only rehearsed stays out of the user's; what that has already is not fetched
// again.
func (p *proxy) env(ctx context.Context, dir, tmp string) ([]string, error) {
	out, err := goStep(dir, "env", "GOPROXY", "GOMODCACHE").run(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	lines := strings.Split(out, "\n")
	if len(lines) < 2 {
		return nil, fmt.Errorf("go env said %q", out)
	}
	known := "file://" + filepath.ToSlash(filepath.Join(lines[1], "cache", "download"))
	return []string{
		"GOWORK=off",
		"GOFLAGS=-modcacherw",
		"GOMODCACHE=" + filepath.Join(tmp, "modcache"),
		"GOPROXY=file://" + filepath.ToSlash(p.dir) + "," + known + "," + lines[0],
		"GOPRIVATE=", "GONOPROXY=", // they would pass the proxy by
		"GONOSUMDB=" + p.root,
	}, nil
}

// add publishes the module in dir, below src, at a version.
func (p *proxy) add(src, dir, module, version string) error {
	at := filepath.Join(p.dir, filepath.FromSlash(module), "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	mod, err := os.ReadFile(filepath.Join(src, dir, "go.mod"))
	if err != nil {
		return err
	}
	info, err := json.Marshal(struct {
		Version string
		Time    time.Time
	}{version, time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{"list": []byte(version + "\n"), version + ".info": info, version + ".mod": mod} {
		if err := os.WriteFile(filepath.Join(at, name), b, 0o644); err != nil {
			return err
		}
	}
	f, err := os.Create(filepath.Join(at, version+".zip"))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := zipModule(f, os.DirFS(src), dir, module+"@"+version); err != nil {
		return fmt.Errorf("zip %s: %w", module, err)
	}
	return f.Close()
}

// zipModule writes the files of the module in dir as the go command packs them:
// without the modules nested in it, and with the repository's licence if it has
// none of its own.
func zipModule(w io.Writer, fsys fs.FS, dir, prefix string) error {
	z := zip.NewWriter(w)
	add := func(from, name string) error {
		b, err := fs.ReadFile(fsys, from)
		if err != nil {
			return err
		}
		f, err := z.Create(prefix + "/" + name)
		if err != nil {
			return err
		}
		_, err = f.Write(b)
		return err
	}
	licensed := false
	err := fs.WalkDir(fsys, dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != dir:
			if _, err := fs.Stat(fsys, path.Join(p, "go.mod")); err == nil || slices.Contains([]string{".git", "vendor"}, d.Name()) {
				return fs.SkipDir
			}
		case d.Type().IsRegular():
			name := p
			if dir != "." {
				name = strings.TrimPrefix(p, dir+"/")
			}
			licensed = licensed || name == "LICENSE"
			return add(p, name)
		}
		return nil
	})
	if err == nil && !licensed {
		err = add("LICENSE", "LICENSE")
	}
	if err != nil {
		return err
	}
	return z.Close()
}

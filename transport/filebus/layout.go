package filebus

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dovetail-go/dovetail/driver"
)

// The directory:
//
//	format                        which layout this is
//	provision.lock                held while channels and groups come and go
//	channels/NAME/channel.json    kind and partitions; a channel without it does not exist
//	channels/NAME/log/mark        the append lock, and how far the log is valid
//	channels/NAME/log/BASE.seg    segments, named after their first sequence number
//	channels/NAME/later/          the same, for messages that are not due yet
//	channels/NAME/groups/GROUP/group.json   where it began; a group without it does not exist
//	channels/NAME/groups/GROUP/cursors      what each partition has settled
//	channels/NAME/groups/GROUP/owners/NNN   locked by the partition's owner
//	channels/NAME/groups/GROUP/members/ID   locked by an open receiver
//	trash/                        what is being deleted
const formatText = "dovetail file transport, format 1\n"

type channelMeta struct {
	Name       string `json:"name"`
	Kind       string `json:"kind"`
	Partitions int    `json:"partitions"`
	Transient  bool   `json:"transient,omitempty"`
}

type groupMeta struct {
	Name      string   `json:"name"`
	Instance  string   `json:"instance,omitempty"` // of a broadcast group
	Start     uint64   `json:"start"`              // first sequence number that is the group's
	Counts    []uint64 `json:"counts"`             // messages per partition before Start
	Broadcast bool     `json:"broadcast,omitempty"`
}

// groupName is that of driver.Subscription.GroupName.
func (m groupMeta) groupName() string {
	return driver.Subscription{Group: m.Name, Instance: m.Instance, Broadcast: m.Broadcast}.GroupName()
}

func (m channelMeta) kind() driver.ChannelKind {
	if m.Kind == driver.PublishSubscribe.String() {
		return driver.PublishSubscribe
	}
	return driver.PointToPoint
}

func (c *Conn) channelDir(name string) string { return filepath.Join(c.dir, "channels", name) }

// groupDirName keeps broadcast groups apart from named ones: '~' is in no name.
// Two long names together are more than a file's may be.
func groupDirName(s driver.Subscription) string {
	name := s.GroupName()
	if len(name) > 250 {
		sum := sha256.Sum256([]byte(name))
		return fmt.Sprintf("%.150s~%x", s.Group, sum[:16])
	}
	return name
}

// writeFile writes a small file so that it is there entirely or not at all,
// also after a loss of power.
func writeFile(path string, data []byte) error {
	// Not os.CreateTemp, which leaves the group no rights.
	f, err := openFile(filepath.Join(filepath.Dir(path), ".new-"+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	step("file written")
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	step("file named")
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(b, '\n'))
}

// readJSON reads channel.json or group.json. It reports fs.ErrNotExist for a file
// that is not there.
func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w: restore it from a backup, or close every process that uses it and remove the directory it stands in, with all that is there", path, err)
	}
	return nil
}

// syncDir makes the names in a directory survive a loss of power.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = errors.Join(d.Sync(), d.Close())
	step("synced " + dir)
	return err
}

// listDir returns the names in a directory, none if it is not there.
func listDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if name := e.Name(); name[0] != '.' {
			names = append(names, name)
		}
	}
	return names, nil
}

// discard deletes a directory by renaming it first, so that a crash leaves it
// whole under its name or not at all. The provision lock is held.
func (c *Conn) discard(dir string) error {
	trash := filepath.Join(c.dir, "trash")
	if err := makeDirs(trash); err != nil {
		return err
	}
	to, err := os.MkdirTemp(trash, "")
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(to, "d")); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	step("discarded")
	return errors.Join(syncDir(filepath.Dir(dir)), os.RemoveAll(to))
}

// sweep deletes what a process that died was deleting.
func (c *Conn) sweep(ctx context.Context) error {
	trash := filepath.Join(c.dir, "trash")
	if names, err := listDir(trash); err != nil || len(names) == 0 {
		return err
	}
	return c.locked(ctx, func() error { return os.RemoveAll(trash) })
}

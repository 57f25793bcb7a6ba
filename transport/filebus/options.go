package filebus

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// Sync says when a message counts as sent.
type Sync int

const (
	// SyncAlways: after fsync. It survives a loss of power.
	SyncAlways Sync = iota
	// SyncOS: once the operating system has it. It survives a kill of every
	// process, but a loss of power takes what was sent in the last half minute
	// or so; see [Conn.Incarnation].
	SyncOS
)

// String returns the word that the URL parameter sync takes: "always" or "os".
func (s Sync) String() string {
	if s == SyncOS {
		return "os"
	}
	return "always"
}

// Options say where the channels are and how they are written. The zero value
// of each is its default.
type Options struct {
	// Dir holds the channels. It is made if it is not there; its parent has to
	// exist. It has to be on a local disk. Default "dovetail-data".
	Dir string

	// Sync says when a message counts as sent. Default SyncAlways.
	Sync Sync

	// Partitions is the number of partitions of a channel that is provisioned
	// without one, 1 to 256. Default 8.
	Partitions int

	// SegmentBytes is the size at which a new segment of a log is begun, 64 KiB
	// to 1 GiB. Segments are deleted whole. Default 64 MiB.
	SegmentBytes int64

	// MaxBytes is the largest message that is taken, as driver.Message.Size
	// counts, 1 to 256 MiB. Larger ones that others sent are still read.
	// Default 16 MiB.
	MaxBytes int

	// Expire is how long the group of a broadcast instance outlives its last
	// receiver: an instance that was away for longer goes on from now. Default
	// 5 minutes.
	Expire time.Duration
}

func (o *Options) setDefaults() error {
	if o.Dir == "" {
		o.Dir = "dovetail-data"
	}
	if o.Partitions == 0 {
		o.Partitions = 8
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 16 << 20
	}
	if o.Expire == 0 {
		o.Expire = 5 * time.Minute
	}
	switch {
	case o.Expire < 0:
		return fmt.Errorf("option Expire is %v: want 0 for the default, or more", o.Expire)
	case o.Sync != SyncAlways && o.Sync != SyncOS:
		return fmt.Errorf("option Sync is %d: want SyncAlways or SyncOS", int(o.Sync))
	case o.Partitions < 1 || o.Partitions > maxPartitions:
		return fmt.Errorf("option Partitions is %d: want 1 to %d", o.Partitions, maxPartitions)
	case o.SegmentBytes < 64<<10 || o.SegmentBytes > 1<<30:
		return fmt.Errorf("option SegmentBytes is %d: want %d to %d", o.SegmentBytes, 64<<10, 1<<30)
	case o.MaxBytes < 1 || o.MaxBytes > 256<<20:
		return fmt.Errorf("option MaxBytes is %d: want 1 to %d", o.MaxBytes, 256<<20)
	}
	return nil
}

func init() {
	driver.Register("file", func(ctx context.Context, u *url.URL) (driver.Conn, error) {
		opts, err := parseURL(u)
		if err != nil {
			return nil, err
		}
		return Open(ctx, opts)
	})
}

// parseURL reads file:dir, file:/dir or file:///dir and the parameters sync,
// partitions, segment-bytes, max-bytes and expire.
func parseURL(u *url.URL) (Options, error) {
	var o Options
	if u.Host != "" && u.Host != "localhost" || u.User != nil {
		return o, errors.New("a file URL has no host: write file:/path/to/dir, or file:dir for one in the working directory")
	}
	o.Dir = u.Path
	if u.Opaque != "" {
		dir, err := url.PathUnescape(u.Opaque)
		if err != nil {
			return o, errors.New("the path has a percent sign that begins no escape: write %25 for % in a path")
		}
		o.Dir = dir
	}
	p := driver.ParamsOf(u)
	p.Parse("sync", func(s string) error {
		switch s {
		case "always":
			o.Sync = SyncAlways
		case "os":
			o.Sync = SyncOS
		default:
			return errors.New("want always or os")
		}
		return nil
	})
	p.Int("partitions", &o.Partitions, 1)
	p.Int64("segment-bytes", &o.SegmentBytes, 1)
	p.Int("max-bytes", &o.MaxBytes, 1)
	p.Duration("expire", &o.Expire)
	if err := p.Err(); err != nil {
		return o, err
	}
	return o, o.setDefaults()
}

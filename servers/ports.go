package servers

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Ports are taken from a range below those that the kernel gives to outgoing
// connections. From that one, a client that connects again and again while its
// server is down could get the server's own port.
const firstPort, lastPort = 20000, 31999

// A reservation keeps ports for a server while it is down. Lock files keep
// them from other processes of this user.
type reservation struct{ files []*os.File }

// reserve finds a free port for each name. taken are those of servers that no
// process watches over.
func reserve(names []string, taken []int) (map[string]int, *reservation, error) {
	cache, err := CacheDir()
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(cache, "ports")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	r := &reservation{}
	ports := map[string]int{}
	const all = lastPort - firstPort + 1
	start := rand.IntN(all)
	for i := 0; i < all && len(ports) < len(names); i++ {
		port := firstPort + (start+i)%all
		if slices.Contains(taken, port) {
			continue
		}
		ok, err := r.take(dir, port)
		if err != nil {
			r.release()
			return nil, nil, err
		}
		if ok {
			ports[names[len(ports)]] = port
		}
	}
	if len(ports) < len(names) {
		r.release()
		return nil, nil, fmt.Errorf("no free port between %d and %d: end servers that nobody uses", firstPort, lastPort)
	}
	return ports, r, nil
}

func (r *reservation) take(dir string, port int) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return false, err
	}
	ok, err := tryLock(f)
	if ok {
		l, listenErr := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(port)))
		if ok = listenErr == nil; ok {
			err = l.Close()
		}
	}
	if !ok || err != nil {
		return false, errors.Join(err, f.Close())
	}
	r.files = append(r.files, f)
	return true, nil
}

// release gives the ports back.
func (r *reservation) release() {
	for _, f := range r.files {
		_ = f.Close()
	}
	r.files = nil
}

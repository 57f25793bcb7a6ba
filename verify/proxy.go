package verify

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
)

// A proxy forwards connections to a server, cuts them and holds them up.
type proxy struct {
	listener net.Listener
	target   string
	ctx      context.Context // ends with the proxy
	cancel   context.CancelFunc
	all      sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	stall chan struct{} // closed when bytes flow again; nil while they do
	conns map[net.Conn]struct{}
}

// defaultPorts are those of URLs that name none.
var defaultPorts = map[string]string{"nats": "4222", "amqp": "5672", "amqps": "5671", "postgres": "5432", "postgresql": "5432"}

// proxied returns a proxy for the server that a URL names, and the URL with the
// proxy's address; nil where it names none, or more than one.
func proxied(raw string) (*proxy, string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || strings.Contains(u.Host, ",") || u.Query().Has("servers") {
		return nil, raw, nil
	}
	port := u.Port()
	if port == "" {
		port = defaultPorts[u.Scheme]
	}
	if _, known := defaultPorts[u.Scheme]; !known || port == "" {
		return nil, raw, nil // Kafka's clients connect to what the servers advertise
	}
	p := &proxy{target: net.JoinHostPort(u.Hostname(), port), conns: map[net.Conn]struct{}{}}
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, raw, fmt.Errorf("listen between processes and server: %w", err)
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.all.Go(p.accept)
	u.Host = p.listener.Addr().String()
	return p, u.String(), nil
}

// breakAll resets all connections, and new ones until heal.
func (p *proxy) breakAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.conns {
		abort(c)
	}
}

// hold leaves all connections open and forwards nothing until heal.
func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stall == nil {
		p.stall = make(chan struct{})
	}
}

// heal ends both.
func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
	if p.stall != nil {
		close(p.stall)
		p.stall = nil
	}
}

func (p *proxy) close() {
	p.cancel()
	_ = p.listener.Close()
	p.breakAll()
	p.all.Wait()
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.all.Go(func() { p.serve(c) })
	}
}

// add remembers a connection, or resets it where all are cut.
func (p *proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut || p.ctx.Err() != nil {
		abort(c)
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *proxy) remove(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}

func (p *proxy) serve(client net.Conn) {
	if !p.add(client) {
		return
	}
	defer p.remove(client)
	var d net.Dialer
	server, err := d.DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		abort(client) // as the closed port behind would
		return
	}
	if !p.add(server) {
		abort(client)
		return
	}
	defer p.remove(server)
	var back sync.WaitGroup
	back.Go(func() { p.forward(client, server) })
	p.forward(server, client)
	back.Wait()
}

// forward copies until either side ends.
func (p *proxy) forward(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.wait()
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
		if err == nil {
			continue
		}
		if half, ok := to.(interface{ CloseWrite() error }); ok && err == io.EOF {
			_ = half.CloseWrite()
		} else {
			abort(to)
			abort(from)
		}
		return
	}
}

// wait returns when bytes may flow, or the proxy has ended.
func (p *proxy) wait() {
	p.mu.Lock()
	stall := p.stall
	p.mu.Unlock()
	if stall == nil {
		return
	}
	select {
	case <-stall:
	case <-p.ctx.Done():
	}
}

// abort closes a connection so that the other side sees it broken, not ended.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

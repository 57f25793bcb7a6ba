// Package netfault breaks connections as a network does, for tests and for
// dovetail verify.
package netfault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
)

// A Proxy forwards TCP connections to a server and breaks them as a network
// does. Its methods are safe for concurrent use.
//
// A client that asks its server for addresses, as Kafka's do, goes around a
// proxy unless its dialer is told to use [Proxy.Addr] for all of them.
type Proxy struct {
	listener net.Listener
	target   string
	ctx      context.Context // ends with the proxy
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu    sync.Mutex
	state proxyState
	next  chan struct{}         // closed when state changes
	conns map[net.Conn]struct{} // of both sides
	links map[*link]struct{}
}

// A link is a client's connection and the one to the server that belongs to it.
type link struct {
	client, server net.Conn
	dropped        bool // its client was reset and its server not told; the proxy's mutex guards it
}

type proxyState int

const (
	flowing proxyState = iota
	stalled
	severed
)

// Listen returns a proxy on a loopback port that forwards to target, a host and
// port, which need not be up yet. Close ends it.
func Listen(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen between clients and %s: %w", target, err)
	}
	p := &Proxy{listener: l, target: target, next: make(chan struct{}), conns: map[net.Conn]struct{}{}, links: map[*link]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wg.Go(p.accept)
	return p, nil
}

// Target returns the host and port that connections are forwarded to.
func (p *Proxy) Target() string { return p.target }

// Addr returns the host and port that clients connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// URL returns a URL of the target with the proxy's address in its place.
func (p *Proxy) URL(target string) string { return strings.ReplaceAll(target, p.target, p.Addr()) }

// Cut resets every connection, and new ones as soon as they are made, until
// Heal.
func (p *Proxy) Cut() {
	p.set(severed)
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		reset(c)
	}
}

// Stall leaves every connection open and forwards nothing in either direction
// until Heal, like a network that drops packets: writes succeed until the
// buffers are full, nothing is answered, nobody is told. New connections are
// made, and stall as well. What was written meanwhile arrives after Heal.
func (p *Proxy) Stall() { p.set(stalled) }

// DropClients resets the client's side of every connection and does not tell the
// server, as when its node is frozen or the network is cut in two. The server's side
// is half-open (RFC 9293, section 3.5.1): what it sends arrives nowhere. New
// connections flow.
func (p *Proxy) DropClients() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.dropped = true
		reset(l.client)
	}
}

// Heal ends Cut and Stall.
func (p *Proxy) Heal() { p.set(flowing) }

// Close resets every connection and returns when the proxy has ended. Closing
// twice is fine.
func (p *Proxy) Close() {
	p.cancel()
	_ = p.listener.Close()
	p.Cut()
	p.wg.Wait()
}

func (p *Proxy) set(s proxyState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
	close(p.next)
	p.next = make(chan struct{})
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		if p.add(c) {
			p.wg.Go(func() { p.serve(c) })
		}
	}
}

// add remembers a connection so that Cut finds it, or resets it.
func (p *Proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == severed || p.ctx.Err() != nil {
		reset(c)
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) remove(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}

func (p *Proxy) serve(client net.Conn) {
	defer p.remove(client)
	if !p.wait() {
		reset(client)
		return
	}
	var d net.Dialer
	server, err := d.DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		reset(client) // as the closed port behind it would
		return
	}
	if !p.add(server) {
		reset(client)
		return
	}
	defer p.remove(server)
	l := &link{client: client, server: server}
	p.mu.Lock()
	p.links[l] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.links, l)
	}()
	var wg sync.WaitGroup
	wg.Go(func() { p.forward(l, server, client) })
	p.forward(l, client, server)
	wg.Wait()
}

func (p *Proxy) isDropped(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.dropped
}

// forward copies until either side ends and passes the end on: an orderly one
// to that direction, any other to the whole connection, but nothing to the server
// whose client was dropped.
func (p *Proxy) forward(l *link, to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if !p.wait() {
			err = errors.Join(err, net.ErrClosed)
		} else if n > 0 {
			if _, writeErr := to.Write(buf[:n]); writeErr != nil {
				err = writeErr
			}
		}
		switch half, ok := to.(interface{ CloseWrite() error }); {
		case err == nil:
			continue
		case p.isDropped(l):
			if from == l.server {
				_, _ = io.Copy(io.Discard, from)
			}
		case ok && errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed):
			_ = half.CloseWrite()
		default:
			reset(to)
			reset(from)
		}
		return
	}
}

// wait returns when bytes may flow, with false when they never will.
func (p *Proxy) wait() bool {
	for {
		p.mu.Lock()
		state, next := p.state, p.next
		p.mu.Unlock()
		switch state {
		case flowing:
			return p.ctx.Err() == nil
		case severed:
			return false
		}
		select {
		case <-next:
		case <-p.ctx.Done():
			return false
		}
	}
}

// reset closes a connection so that the other side sees it broken, not ended.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

package rabbitbus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// A nameSet is a set of names for concurrent use.
type nameSet struct {
	mu    sync.Mutex
	names map[string]bool
}

func (s *nameSet) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names == nil {
		s.names = map[string]bool{}
	}
	s.names[name] = true
}

func (s *nameSet) each(f func(string)) {
	s.mu.Lock()
	names := slices.Sorted(maps.Keys(s.names))
	s.mu.Unlock()
	for _, n := range names {
		f(n)
	}
}

// known are the queues of a channel's groups that this connection has made.
func (c *Conn) known(channel string) *nameSet {
	known, _ := c.groups.LoadOrStore(channel, &nameSet{})
	return known.(*nameSet)
}

// managed is what the management plugin tells of a virtual host. Its counts are
// seconds old and are not used.
type managed struct {
	queues    []struct{ Name string }
	exchanges []struct{ Name, Type string }
	groups    []struct {
		Queue string `json:"destination"`
		Group string `json:"routing_key"`
	}
}

// managed asks the management plugin.
func (c *Conn) managed(ctx context.Context) (*managed, error) {
	if c.opts.Management == "" {
		return nil, fmt.Errorf("AMQP cannot list: %w without the management plugin: set management=http://host:15672 in the URL", driver.ErrUnsupported)
	}
	var m managed
	vhost := url.PathEscape(c.opts.VHost)
	err := c.ask(ctx, map[string]any{
		"/api/queues/" + vhost + "?columns=name":                                              &m.queues,
		"/api/exchanges/" + vhost + "?columns=name,type":                                      &m.exchanges,
		"/api/exchanges/" + vhost + "/" + url.PathEscape(groupsExchange) + "/bindings/source": &m.groups,
	})
	return &m, err
}

// ask gets what the management plugin has at each path.
func (c *Conn) ask(ctx context.Context, paths map[string]any) error {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: c.opts.TLS.Clone(), Proxy: http.ProxyFromEnvironment}}
	for path, into := range paths {
		if err := c.get(ctx, client, path, into); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) get(ctx context.Context, client *http.Client, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.opts.Management, "/")+path, nil)
	if err != nil {
		return fmt.Errorf("option Management is no URL: want http://host:15672")
	}
	if req.URL.User == nil {
		req.SetBasicAuth(c.opts.User, c.opts.Password)
	}
	resp, err := client.Do(req)
	if err != nil {
		var at *url.Error // it quotes the URL
		if errors.As(err, &at) {
			err = at.Err
		}
		return fmt.Errorf("%w: ask the management plugin at %s: %w", driver.ErrRetryable, driver.RedactURL(req.URL), err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil // no group was noted yet
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: the management plugin answers %s: give the user the tag management, policymaker for policies, or monitoring for nodes", driver.ErrDenied, resp.Status)
	default:
		return fmt.Errorf("%w: the management plugin answers %s", driver.ErrRetryable, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("read what the management plugin answers: %w", err)
	}
	return nil
}

// Channels lists queues and exchanges that can be channels of ours. It needs
// the management plugin and Options.Management.
func (c *Conn) Channels(ctx context.Context) ([]driver.ChannelInfo, error) {
	const doing = "list channels"
	if _, err := c.sub.session(); err != nil {
		return nil, err
	}
	all, err := c.managed(ctx)
	if err != nil {
		return nil, translate(doing, err)
	}
	infos := map[string]*driver.ChannelInfo{}
	for _, x := range all.exchanges {
		name, k := splitPart(x.Name)
		if x.Type != amqp.ExchangeFanout || strings.HasPrefix(name, "amq.") || driver.ValidName(name) != nil {
			continue
		}
		info := infoOf(infos, name)
		info.Channel.Kind, info.Messages = driver.PublishSubscribe, -1
		info.Channel.Partitions = max(info.Channel.Partitions, k+1)
	}
	for _, q := range all.queues {
		if err := c.listQueue(ctx, infos, q.Name); err != nil {
			return nil, translate(doing, err)
		}
	}
	for _, g := range all.groups {
		name, _ := splitPart(g.Queue)
		info := infos[name]
		if info == nil || info.Channel.Kind != driver.PointToPoint {
			continue
		}
		group := driver.GroupInfo{Name: g.Group, Backlog: info.Messages, Pending: 0}
		if info.Messages < 0 {
			group.Backlog, group.Pending = -1, -1
		}
		info.Groups = append(info.Groups, group)
	}
	out := make([]driver.ChannelInfo, 0, len(infos))
	for _, name := range slices.Sorted(maps.Keys(infos)) {
		out = append(out, *infos[name])
	}
	return out, nil
}

// listQueue adds a queue to what it belongs to.
func (c *Conn) listQueue(ctx context.Context, infos map[string]*driver.ChannelInfo, queue string) error {
	whole, k := splitPart(queue)
	name, group, ofGroup := strings.Cut(whole, groupMark)
	if driver.ValidName(name) != nil || strings.HasSuffix(whole, membersMark) {
		return nil
	}
	if info := infos[name]; ofGroup && (info == nil || info.Channel.Kind != driver.PublishSubscribe) || !ofGroup && info != nil && info.Channel.Kind != driver.PointToPoint {
		return nil
	}
	s, err := c.sub.session()
	if err != nil {
		return err
	}
	var q amqp.Queue
	err = s.with(ctx, func(ch *amqp.Channel) (err error) {
		q, err = ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err
	})
	if isCode(err, amqp.NotFound) || isCode(err, amqp.ResourceLocked) {
		return nil // gone meanwhile, or another connection's own
	}
	if err != nil {
		return err
	}
	info := infoOf(infos, name)
	if !ofGroup {
		info.Channel.Partitions = max(info.Channel.Partitions, k+1)
		// What a consumer has in hand is not counted.
		if q.Consumers > 0 || info.Messages < 0 {
			info.Messages = -1
		} else {
			info.Messages += int64(q.Messages)
		}
		return nil
	}
	i := slices.IndexFunc(info.Groups, func(g driver.GroupInfo) bool { return g.Name == group })
	if i < 0 {
		i = len(info.Groups)
		info.Groups = append(info.Groups, driver.GroupInfo{Name: group})
	}
	g := &info.Groups[i]
	g.Backlog += int64(q.Messages)
	if q.Consumers > 0 {
		g.Pending = -1
	}
	return nil
}

func infoOf(infos map[string]*driver.ChannelInfo, name string) *driver.ChannelInfo {
	info := infos[name]
	if info == nil {
		info = &driver.ChannelInfo{Channel: driver.Channel{Name: name}}
		infos[name] = info
	}
	return info
}

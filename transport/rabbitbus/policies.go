package rabbitbus

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// A policy is a rule of an operator's that changes queues by name. AMQP does not
// show what it does.
type policy struct {
	Name       string
	Pattern    string
	ApplyTo    string `json:"apply-to"`
	Priority   int
	Definition map[string]json.RawMessage
}

// policed looks whether a policy makes one of the queues lose messages. It needs
// the management plugin: where Options.Management does not say where that is, or
// it does not answer, it finds nothing.
func (c *Conn) policed(ctx context.Context, queues []string) error {
	if c.opts.Management == "" || len(queues) == 0 {
		return nil
	}
	vhost := url.PathEscape(c.opts.VHost)
	for _, path := range []string{"/api/policies/" + vhost, "/api/operator-policies/" + vhost} {
		var policies []policy
		if err := c.ask(ctx, map[string]any{path: &policies}); err != nil {
			c.blind.Do(func() { c.opts.Logger.Warn("rabbitbus: policies of queues cannot be looked at", "error", err) })
			return nil
		}
		// Of those that match, the one of the highest priority counts.
		slices.SortStableFunc(policies, func(a, b policy) int { return b.Priority - a.Priority })
		for _, queue := range queues {
			i := slices.IndexFunc(policies, func(p policy) bool { return p.matches(queue) })
			if i < 0 {
				continue
			}
			if why := policies[i].harm(c.opts.Classic); why != "" {
				return unfit("queue "+queue, fmt.Sprintf("has by policy %s %s", policies[i].Name, why),
					"have the pattern of the policy leave the queue out, or take that out of the policy")
			}
		}
	}
	return nil
}

func (p *policy) matches(queue string) bool {
	if p.ApplyTo == "exchanges" || p.ApplyTo == "streams" {
		return false
	}
	re, err := regexp.Compile(p.Pattern)
	return err == nil && re.MatchString(queue)
}

// harm says why a queue under the policy would lose messages. A bound on its
// length is none: the overflow that a queue was declared with comes first.
func (p *policy) harm(classic bool) string {
	for _, name := range []string{amqp.QueueMessageTTLArg, amqp.QueueTTLArg, deliveryLimit} {
		key := strings.TrimPrefix(name, "x-")
		value, has := p.Definition[key]
		var n int64
		if !has || name == deliveryLimit && (classic || json.Unmarshal(value, &n) == nil && n < 0) {
			continue
		}
		return fmt.Sprintf("%s=%s: %s", key, value, setting{name, string(value)}.harm(&channelState{}))
	}
	return ""
}

// groupQueues are the queues of a subscription that outlive its receivers.
func groupQueues(s driver.Subscription, st *channelState) []string {
	return partNames(groupBase(s.Channel, s.Group), st.partitions)
}

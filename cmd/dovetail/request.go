package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/spf13/cobra"
)

// An answer is a reply as it is printed.
type answer struct {
	Service  string          `json:"service,omitempty"`
	Instance string          `json:"instance,omitempty"`
	Status   string          `json:"status"` // answered, refused, failed or expired
	Code     string          `json:"code,omitempty"`
	Error    string          `json:"error,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"`
	Base64   []byte          `json:"data_base64,omitempty"`
	TookMS   float64         `json:"took_ms"`
}

// asIs hands bodies through, under a content type of one's own.
type asIs struct{ contentType string }

// ContentType is what the flag says.
func (c asIs) ContentType() string { return c.contentType }

// Marshal takes []byte.
func (c asIs) Marshal(v any) ([]byte, error) { return v.([]byte), nil }

// Unmarshal gives []byte.
func (c asIs) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = data
	return nil
}

func (a *app) requestCommand() *cobra.Command {
	var d draft
	var within time.Duration
	var once bool
	cmd := &cobra.Command{
		Use:   "request [TYPE]",
		Short: "Ask one receiver and print its reply",
		Long: `Ask the one receiver of a call and print its reply. A refusal or a failure is
printed as such, and the exit code is 1.`,
		Example: `  dovetail request catalog.reserve-stock --data '{"sku":"85123A","count":6}' --within 5s
  echo '{"sku":"85123A"}' | dovetail request catalog.reserve-stock -o json`,
		Args: arguments(0, 1, ""),
	}
	d.flags(cmd, false)
	cmd.Flags().DurationVar(&within, "within", 10*time.Second, "how long to wait for the reply")
	cmd.Flags().BoolVar(&once, "at-most-once", false, "the call is declared AtMostOnce: its channel is not kept")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.asking(cmd, &d, args, driver.PointToPoint, once, within, func(ctx context.Context, svc *dovetail.Service, body []byte, opts []dovetail.SendOption) error {
			call := dovetail.NewCall[[]byte, []byte](d.name).Version(d.version).On(dovetail.NewChannel(d.channel)).Encoded(asIs{d.contentType})
			if d.key != "" {
				call = call.Keyed(func([]byte) string { return d.key })
			}
			if once {
				call = call.AtMostOnce()
			}
			svc.Declare(call)
			all := []dovetail.RequestOption{dovetail.Within(within)}
			for _, o := range opts {
				all = append(all, o)
			}
			begin := time.Now()
			reply, err := call.Request(ctx, svc, body, all...)
			return a.answer(dovetail.Answer[[]byte]{Value: reply}, d.contentType, err, begin)
		})
	}
	return cmd
}

func (a *app) gatherCommand() *cobra.Command {
	var d draft
	var within time.Duration
	var quorum, expect int
	cmd := &cobra.Command{
		Use:   "gather [TYPE]",
		Short: "Ask every listening instance and print the replies as they come",
		Long: `Ask every listening instance of a survey and print the replies as they come,
until --within has passed or enough came. The exit code is 1 if the quorum was
not reached.`,
		Example: `  dovetail gather catalog.cache-view --data '"85123A"' --within 2s
  dovetail gather catalog.cache-view --data '"85123A"' --quorum 3 -o json`,
		Args: arguments(0, 1, ""),
	}
	d.flags(cmd, false)
	f := cmd.Flags()
	f.DurationVar(&within, "within", 2*time.Second, "how long to wait for replies")
	f.IntVar(&quorum, "quorum", 0, "end once so many distinct instances have succeeded; fewer are a failure")
	f.IntVar(&expect, "expect", 0, "end once so many instances have answered")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if quorum < 0 || expect < 0 {
			return misuse("--quorum and --expect: want 1 or more")
		}
		return a.asking(cmd, &d, args, driver.PublishSubscribe, false, within, func(ctx context.Context, svc *dovetail.Service, body []byte, opts []dovetail.SendOption) error {
			survey := dovetail.NewSurvey[[]byte, []byte](d.name).Version(d.version).On(dovetail.NewChannel(d.channel)).Encoded(asIs{d.contentType})
			svc.Declare(survey)
			all := []dovetail.GatherOption{dovetail.Within(within)}
			if quorum > 0 {
				all = append(all, dovetail.Quorum(quorum))
			}
			if expect > 0 {
				all = append(all, dovetail.Expect(expect))
			}
			for _, o := range opts {
				all = append(all, o)
			}
			return a.gathered(survey.Gather(ctx, svc, body, all...), d.contentType)
		})
	}
	return cmd
}

// gathered prints replies as they come.
func (a *app) gathered(answers func(func(dovetail.Answer[[]byte], error) bool), contentType string) (err error) {
	n, begin := 0, time.Now()
	for r, rerr := range answers {
		if rerr != nil && r.Service == "" {
			err = rerr // the gathering's own: the quorum, the broker
			continue
		}
		n++
		if perr := a.answer(r, contentType, rerr, begin); perr != nil && !errors.Is(perr, errReported) {
			return perr
		}
	}
	if err == nil && n == 0 {
		a.note("nobody answered")
	}
	return err
}

// asking runs a service that can await replies, and calls ask with the body.
func (a *app) asking(cmd *cobra.Command, d *draft, args []string, kind driver.ChannelKind, transient bool, within time.Duration,
	ask func(context.Context, *dovetail.Service, []byte, []dovetail.SendOption) error) error {
	if err := d.check(args); err != nil {
		return err
	}
	if within <= 0 {
		return misuse("--within is %v: want a duration above 0", within)
	}
	body, given, err := d.one(cmd)
	if err == nil && !given {
		body, err = io.ReadAll(io.LimitReader(a.in, maxLine))
	}
	if err != nil {
		return err
	}
	body = []byte(strings.TrimSpace(string(body)))
	if _, err := d.message(body); err != nil {
		return misuse("%w", err)
	}
	conn, done, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	defer done()
	if !transient {
		if err := a.checkChannel(cmd.Context(), conn, d.channel, kind, false, "or give the right --channel"); err != nil {
			return err
		}
	}
	svc := dovetail.New(d.source, conn, dovetail.Options{Logger: slog.Default(), SendTimeout: a.timeout})
	opts := []dovetail.SendOption{}
	if d.id != "" {
		opts = append(opts, dovetail.ID(d.id))
	}
	for _, h := range d.headers {
		name, value, _ := strings.Cut(h, "=")
		opts = append(opts, dovetail.Header(name, value))
	}
	ctx, stop := context.WithCancel(cmd.Context())
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	err = ask(ctx, svc, body, opts)
	stop()
	return errors.Join(err, <-ended)
}

// answer prints a reply; what is no success is an error that has been told.
func (a *app) answer(r dovetail.Answer[[]byte], contentType string, err error, begin time.Time) error {
	out := answer{Service: r.Service, Instance: r.Instance, Status: "answered", TookMS: float64(time.Since(begin).Microseconds()) / 1e3}
	var refusal *dovetail.RemoteRefusal
	var remote *dovetail.RemoteError
	switch {
	case errors.As(err, &refusal):
		out.Status, out.Code, out.Error = "refused", refusal.Code, refusal.Message
	case errors.As(err, &remote):
		out.Status, out.Service, out.Error = "failed", remote.Service, remote.Message
	case errors.Is(err, dovetail.ErrExpired):
		out.Status, out.Error = "expired", err.Error()
	case err != nil:
		return err
	default:
		s := show(&driver.Message{ContentType: contentType, Body: r.Value})
		out.Data, out.Base64 = s.Data, s.Base64
	}
	perr := a.printOne(out, func(w io.Writer) error {
		who := ""
		if out.Service != "" {
			who = a.colour(dim, clean(out.Service+"/"+out.Instance)) + "  "
		}
		text := cleanLines(string(r.Value))
		if out.Status != "answered" {
			text = a.colour(red, out.Status) + ": " + clean(strings.TrimSpace(out.Code+" "+out.Error))
		}
		_, err := fmt.Fprintf(w, "%s%s\n", who, text)
		return err
	})
	if perr == nil && err != nil {
		return errReported
	}
	return perr
}

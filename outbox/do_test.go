package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
)

func send(ctx context.Context, out dovetail.Sender, ids ...string) error {
	var ms []*driver.Message
	for _, id := range ids {
		ms = append(ms, message(id, "stock", "tea"))
	}
	return out.Send(ctx, ms)
}

func TestDo_commits_changes_and_messages_together(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		b.must(b.box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
			tx.Put("tea", []byte("8"))
			if out.Name() != "catalog" {
				b.Errorf("sender's name %q", out.Name())
			}
			return send(ctx, out, "1", "2")
		}))
		b.want(0, "1", "2") // woken at once: no time has passed
		if v, _ := b.db.Get("tea"); string(v) != "8" {
			b.Errorf("value %q", v)
		}
		if b.broker.got[0].Source != "catalog" {
			b.Errorf("source %q", b.broker.got[0].Source)
		}
	})
}

func TestDo_leaves_nothing_when_its_function_fails(t *testing.T) {
	boom := errors.New("boom")
	for name, end := range map[string]func(out dovetail.Sender) error{
		"error": func(dovetail.Sender) error { return boom },
		"panic": func(dovetail.Sender) error { panic(boom) },
		"exit":  func(dovetail.Sender) error { runtime.Goexit(); return nil },
		"invalid": func(out dovetail.Sender) error {
			return out.Send(context.Background(), []*driver.Message{{ID: "no type"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, outbox.Options{}, func(b *bench) {
				var err error
				var panicked any
				var wg sync.WaitGroup
				wg.Go(func() {
					defer func() { panicked = recover() }()
					err = b.box.Do(context.Background(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
						tx.Put("tea", []byte("8"))
						if err := send(ctx, out, "1"); err != nil {
							return err
						}
						return end(out)
					})
				})
				wg.Wait()
				switch name {
				case "error":
					if !errors.Is(err, boom) {
						b.Errorf("error %v, want the function's", err)
					}
				case "invalid":
					if !errors.Is(err, dovetail.ErrInvalid) {
						b.Errorf("error %v, want ErrInvalid", err)
					}
				case "panic":
					if panicked != boom {
						b.Errorf("recovered %v, want the function's panic", panicked)
					}
				}
				if _, ok := b.db.Get("tea"); ok {
					b.Error("the change is there")
				}
				b.publish("stock", "", "next") // the store is not blocked
				b.want(time.Minute, "next")
			})
		})
	}
}

func TestDo_ends_when_its_context_ends_while_it_waits(t *testing.T) {
	idle(t, outbox.Options{}, func(b *bench) {
		tx, err := b.db.Begin(b.Context())
		b.must(err)
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		err = b.box.Do(ctx, func(context.Context, *memstore.Tx, dovetail.Sender) error { return nil })
		if !errors.Is(err, context.DeadlineExceeded) {
			b.Errorf("error %v", err)
		}
		b.must(b.db.Rollback(b.Context(), tx))
	})
}

func TestDo_rolls_back_when_its_context_has_ended(t *testing.T) {
	idle(t, outbox.Options{}, func(b *bench) {
		ctx, cancel := context.WithCancel(b.Context())
		err := b.box.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
			tx.Put("tea", nil)
			cancel()
			return nil
		})
		if !errors.Is(err, context.Canceled) || errors.Is(err, dovetail.ErrUnknownOutcome) {
			b.Errorf("error %v, want canceled and no doubt", err)
		}
		if len(b.db.Keys()) > 0 {
			b.Error("the change is there")
		}
	})
}

func TestDo_within_Do_joins_and_is_undone_alone(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		boom := errors.New("boom")
		other := outbox.New(b.svc, b.db, outbox.Options{NoRelay: true}) // another box of the same database
		b.must(b.box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
			tx.Put("outer", nil)
			b.must(send(ctx, out, "1"))
			err := other.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
				tx.Put("undone", nil)
				b.must(send(ctx, out, "undone"))
				return boom
			})
			if !errors.Is(err, boom) {
				b.Errorf("inner error %v", err)
			}
			func() {
				defer func() {
					if recover() != any(boom) {
						b.Error("the inner panic did not come through")
					}
				}()
				err := other.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
					tx.Put("undone", nil)
					b.must(send(ctx, out, "undone"))
					panic(boom)
				})
				b.Errorf("the inner Do returned %v", err)
			}()
			b.must(b.box.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
				tx.Put("inner", nil)
				return send(ctx, out, "2")
			}))
			return send(ctx, out, "3")
		}))
		b.want(0, "1", "2", "3")
		if keys := b.db.Keys(); !slices.Equal(keys, []string{"inner", "outer"}) {
			b.Errorf("keys %v", keys)
		}
	})
}

func TestDo_refuses_messages_after_its_end(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		var kept dovetail.Sender
		var keptCtx context.Context
		b.must(b.box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
			kept, keptCtx = out, ctx
			return nil
		}))
		if err := send(b.Context(), kept, "late"); err == nil || !strings.Contains(err.Error(), "has ended") {
			b.Errorf("error %v, want one that says that the transaction has ended", err)
		}
		// The context of a transaction that has ended belongs to none.
		b.must(b.box.Do(keptCtx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error { return send(ctx, out, "1") }))
		b.want(0, "1")
	})
}

func TestDo_takes_messages_from_several_goroutines(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		b.must(b.box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					if err := send(ctx, out, fmt.Sprint(i)); err != nil {
						b.Error(err)
					}
				})
			}
			wg.Wait()
			return nil
		}))
		b.pass(0)
		if n := len(b.broker.ids()); n != 20 {
			b.Errorf("%d messages", n)
		}
	})
}

func TestDo_finds_out_what_became_of_a_commit(t *testing.T) {
	lost := fmt.Errorf("%w: connection reset", store.ErrUnknown)
	for name, c := range map[string]struct {
		commits bool
		resolve error
		want    error
	}{
		"committed":   {commits: true},
		"rolled back": {want: errors.New("rolled back")},
		"unknown":     {resolve: errDown, want: dovetail.ErrUnknownOutcome},
	} {
		t.Run(name, func(t *testing.T) {
			idle(t, outbox.Options{}, func(b *bench) {
				f := &faulty{Store: b.db, resErr: c.resolve}
				f.commit = func(ctx context.Context, tx *memstore.Tx, w store.Writes) error {
					if c.commits {
						return errors.Join(lost, b.db.Commit(ctx, tx, w))
					}
					return errors.Join(lost, b.db.Rollback(ctx, tx))
				}
				box := outbox.New(b.svc, f)
				err := box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error { return nil })
				switch {
				case c.want == nil && err != nil:
					b.Errorf("error %v after a commit", err)
				case c.want == dovetail.ErrUnknownOutcome && !errors.Is(err, dovetail.ErrUnknownOutcome):
					b.Errorf("error %v, want ErrUnknownOutcome", err)
				case name == "rolled back" && (err == nil || errors.Is(err, dovetail.ErrUnknownOutcome) || errors.Is(err, store.ErrUnknown)):
					b.Errorf("error %v, want one without doubt", err)
				}
			})
		})
	}
}

func TestIn_writes_to_a_transaction_of_somebody_else(t *testing.T) {
	within(t, outbox.Options{}, func(b *bench) {
		tx, err := b.db.Begin(b.Context())
		b.must(err)
		b.must(send(b.Context(), b.box.Sender(tx), "1"))
		buffered := b.box.Buffered(tx)
		b.must(send(b.Context(), buffered, "3"))
		b.must(send(b.Context(), b.box.Sender(tx), "2"))
		b.must(buffered.Flush(b.Context()))
		if err := send(b.Context(), buffered, "late"); err == nil {
			b.Error("a flushed sender took a message")
		}
		b.want(time.Minute)
		b.must(b.db.Commit(b.Context(), tx, store.Writes{}))
		b.box.Wake()
		b.want(0, "1", "2", "3")

		tx, err = b.db.Begin(b.Context())
		b.must(err)
		b.must(send(b.Context(), b.box.Sender(tx), "undone"))
		b.must(b.db.Rollback(b.Context(), tx))
		b.want(time.Minute, "1", "2", "3")
	})
}

func TestBox_delays_messages_where_the_transport_cannot(t *testing.T) {
	for _, can := range []bool{false, true} {
		t.Run(fmt.Sprintf("transport can: %v", can), func(t *testing.T) {
			idle(t, outbox.Options{}, func(b *bench) {
				b.broker.caps.Delay = can
				b.box = outbox.New(b.svc, b.db)
				b.svc.components = b.svc.components[1:]
				b.start()
				defer b.stop()
				b.must(b.box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
					soon, gone, past := message("soon", "stock", "tea"), message("gone", "stock", "tea"), message("past", "stock", "tea")
					soon.Due, gone.Due, past.Due = time.Now().Add(time.Minute), time.Now().Add(time.Minute), time.Now().Add(-time.Minute)
					return out.Send(ctx, []*driver.Message{message("now", "stock", "tea"), gone, soon, past})
				}))
				if can {
					b.want(0, "now", "gone", "soon", "past")
					return
				}
				b.want(59*time.Second, "now", "past")
				b.must(b.box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
					if n, err := b.box.Cancel(ctx, tx, "gone", "never"); n != 1 || err != nil {
						b.Errorf("cancelled %d, %v", n, err)
					}
					return nil
				}))
				b.want(time.Second, "now", "past", "soon")
				b.must(b.box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
					if n, err := b.box.Cancel(ctx, tx, "soon"); n != 0 || err != nil {
						b.Errorf("cancelled %d too late, %v", n, err)
					}
					return nil
				}))
			})
		})
	}
}

func TestNew_with_wrong_options_fails_when_used(t *testing.T) {
	for field, opts := range map[string]outbox.Options{"Lease": {Lease: -1}, "Retention": {Retention: time.Hour, InboxRetention: time.Hour}} {
		t.Run(field, func(t *testing.T) {
			idle(t, opts, func(b *bench) {
				err := b.box.Do(b.Context(), func(context.Context, *memstore.Tx, dovetail.Sender) error { return nil })
				if err == nil || !strings.Contains(err.Error(), "Options."+field) {
					b.Errorf("error %v, want one that names the field", err)
				}
				if err := b.svc.components[0].Run(b.Context()); err == nil {
					b.Error("Run succeeded")
				}
			})
		})
	}
}

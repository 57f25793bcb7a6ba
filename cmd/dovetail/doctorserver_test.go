package main

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// A broker of the cluster that does not answer has said nothing about its version.
func TestDoctor_says_which_versions_the_brokers_of_Kafka_are(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(2))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	const well, silent, old = 0, 1, 2
	var second atomic.Int32
	fake.ControlKey(int16(kmsg.ApiVersions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		if fake.CurrentNode() != 1 {
			return nil, nil, false
		}
		switch second.Load() {
		case silent:
			return nil, errors.New("silent"), true
		case old:
			resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
			kversion.V2_8_0().EachMaxKeyVersion(func(k, v int16) {
				resp.ApiKeys = append(resp.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: k, MaxVersion: v})
			})
			return resp, nil, true
		}
		return nil, nil, false
	})
	look := func(state int32) []checkup {
		second.Store(state)
		client, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()[0]))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return examine(t, func(_ context.Context, d *doctor) { d.kafkaVersion(ctx, client) })
	}
	says(t, look(silent), "broker: version", warning, "broker 1 does not answer: ", brokersRemedy)
	says(t, look(old), "broker: version", warning, "the brokers are not of one version: map[", "finish the upgrade")
	says(t, look(well), "broker: version", fine, ", brokers: 2", "")
	client, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ended, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	says(t, examine(t, func(_ context.Context, d *doctor) { d.kafkaVersion(ended, client) }), "broker: version", warning, "", brokersRemedy)
}

// Someone who holds the file's lock is found, and the store is well once they end.
func TestDoctor_finds_who_keeps_a_file_locked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.db")
	s, err := sqlitestore.Open(t.Context(), path)
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	look := func(timeout time.Duration) []checkup {
		return examine(t, func(ctx context.Context, d *doctor) { d.a.timeout = timeout; d.store(ctx, "sqlite:"+path) })
	}
	says(t, look(500*time.Millisecond), "store: write", broken, "begin: ", "or look for a transaction that holds locks")
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	all := look(time.Minute)
	says(t, all, "store: write", fine, "a transaction that writes begins and rolls back", "")
	says(t, all, "store: file", fine, "journal wal", "")
	says(t, examine(t, func(ctx context.Context, d *doctor) { d.store(ctx, "") }), "store", skipped, "none is named", "name one with --store")
}

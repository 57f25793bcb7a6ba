package dovetail_test

import (
	"context"
	"slices"
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

func TestUses_are_the_contracts_channels_and_the_services_own(t *testing.T) {
	conn := scriptedConn(t)
	shipped := dovetail.NewEvent[item]("ordering.shipped")
	reserve := dovetail.NewCall[item, item]("catalog.reserve")
	views := dovetail.NewSurvey[item, item]("catalog.views")
	svc := dovetail.New("mail", conn.Conn, quick)
	svc.Declare(shipped)
	shipped.Subscribe(svc, func(context.Context, item) error { return nil })
	reserve.Handle(svc, func(_ context.Context, i item) (item, error) { return i, nil })
	views.Handle(svc, func(_ context.Context, i item) (item, error) { return i, nil })
	got := map[string]driver.Use{}
	for _, u := range svc.Uses() {
		got[u.Channel.Name] = u
	}
	has := func(name string, sends, prefix bool, groups ...string) {
		t.Helper()
		u, ok := got[name]
		if !ok || u.Sends != sends || u.Prefix != prefix || !slices.Equal(u.Groups, groups) {
			t.Errorf("%s: %+v", name, u)
		}
		delete(got, name)
	}
	has("ordering.shipped", true, false, "mail")
	has("catalog.reserve", false, false, "mail")
	if u := got["catalog.views"]; !slices.Equal(u.Broadcasts, []string{"mail"}) || len(u.Groups) != 0 {
		t.Errorf("a survey's channel: %+v", u)
	}
	has("catalog.views", false, false)
	has(dovetail.DeadLetterChannel("mail"), true, false)
	has(dovetail.RequeueChannel("mail"), false, false, "mail")
	has("unhandled.mail", false, false, "mail")
	has(dovetail.UnhandledChannel("mail", "mail", shipped.Spec().Type()), true, false, "mail")
	has(dovetail.UnhandledChannel("mail", "mail", reserve.Spec().Type()), true, false, "mail")
	has("reply.mail.", false, true, "mail")
	has("reply.", true, true)
	has("answers.", true, true)
	for name := range got {
		t.Errorf("%s: is in use too", name)
	}
}

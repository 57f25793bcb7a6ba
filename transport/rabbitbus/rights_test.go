package rabbitbus_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/internal/rightstest"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
)

func TestRights_that_are_printed_are_what_a_service_needs(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	for _, partitions := range []int{0, 2} {
		t.Run(fmt.Sprintf("%d partitions", partitions), func(t *testing.T) {
			rightstest.Check(t, rightstest.Harness{
				Start: func(t *testing.T, grants []driver.Grant) (operator, granted driver.Conn, err error) {
					return startGranting(t, srv, grants, partitions)
				},
				Names: func(g driver.Grant) string {
					if partitions > 0 { // they differ in the names alone, and in what is asked when partitions are shared again
						return ""
					}
					return namesResource(g)
				},
			})
		})
	}
}

// startGranting has a virtual host of its own, and a user with the rights in it.
func startGranting(t *testing.T, srv *servers.Server, all []driver.Grant, partitions int) (operator, granted driver.Conn, err error) {
	admin := optionsFor(t, srv)
	o := admin
	o.Partitions = partitions
	name := fmt.Sprintf("rights-%d", rightsTried.Add(1))
	manage(t, admin, http.MethodPut, "/api/vhosts/"+name, map[string]any{})
	manage(t, admin, http.MethodPut, "/api/permissions/"+name+"/guest", map[string]any{"configure": ".*", "write": ".*", "read": ".*"})
	manage(t, admin, http.MethodPut, "/api/users/"+name, map[string]any{"password": "x", "tags": ""})
	of := map[string]any{}
	for _, verb := range []string{"configure", "write", "read"} {
		of[verb] = ".*"
		if all != nil {
			of[verb] = pattern(verb, all)
		}
	}
	manage(t, admin, http.MethodPut, "/api/permissions/"+name+"/"+name, of)
	t.Cleanup(func() {
		manage(t, admin, http.MethodDelete, "/api/users/"+name, nil)
		manage(t, admin, http.MethodDelete, "/api/vhosts/"+name, nil)
	})
	o.VHost = name
	operator = connect(t, o)
	o.User, o.Password, o.Management = name, "x", ""
	c, err := rabbitbus.Connect(t.Context(), o)
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return operator, c, nil
}

var rightsTried atomic.Int64

func pattern(verb string, all []driver.Grant) string {
	var names []string
	for _, g := range all {
		if g.Verb == verb {
			names = append(names, g.On)
		}
	}
	return "^(" + strings.Join(names, "|") + ")$"
}

// manage asks the management plugin for a change.
func manage(t testing.TB, o rabbitbus.Options, method, path string, body any) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, o.Management+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("guest", "guest")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
}

// namesResource is how the name of the queue or exchange begins.
func namesResource(g driver.Grant) string {
	name := regexp.MustCompile(`\\(.)`).ReplaceAllString(g.On, "$1")
	name, _, _ = strings.Cut(name, "[0-9]")
	name = strings.TrimSuffix(name, ".*")
	channel, _, _ := strings.Cut(strings.TrimSuffix(name, "#"), "::")
	if rightstest.Unused(channel) {
		return ""
	}
	return name
}

// Package mailapi is what other services may know of mail: its contracts.
package mailapi

import "github.com/dovetail-go/dovetail"

// SendWelcome has a new customer greeted. Nobody waits for it.
var SendWelcome = dovetail.NewCommand[Welcome]("mail.send-welcome").Keyed(Welcome.key)

// Welcome says whom to greet.
type Welcome struct {
	Customer string `json:"customer"`
	Order    string `json:"order"` // the customer's first
}

func (w Welcome) key() string { return w.Customer }

package dovetail

import "fmt"

// A Refusal is a business answer that is not the one hoped for. A handler makes
// it with Refuse.
type Refusal struct {
	Code    string // for programs: "out-of-stock"
	Message string // for people

	remote bool // another service's, seen through a RemoteRefusal
}

// Refuse makes a Refusal with a formatted message, for a handler to return. The
// handler's transaction rolls back, the caller gets the refusal at once, and
// nothing is tried again.
//
// In a handler that nobody asked, of an event, a command or a document, a refusal
// means that the message was considered and is done with: it is settled as
// handled, tried once and kept nowhere. It is counted in Stats.Refused, told to
// Hooks.Notice, and the first of each handler is logged. To keep such a message,
// return Permanent.
func Refuse(code, format string, args ...any) error {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error returns the message and the code.
func (r *Refusal) Error() string { return r.Message + " (" + r.Code + ")" }

// A RemoteRefusal is what Request, Gather and Answers return for a refusal that
// another service gave. It is no answer of the handler that gets it: a handler
// that returns it, wrapped or not, has failed, and is tried again by policy. A
// handler that wants to pass it on as its own answer returns
// Refuse(r.Code, "%s", r.Message).
//
// errors.As with a **Refusal finds the code and the message as well.
type RemoteRefusal struct {
	Service string // who refused; empty where a reply does not say
	Code    string
	Message string
}

// Error tells who refused, and why.
func (r *RemoteRefusal) Error() string {
	who := r.Service
	if who == "" {
		who = "receiver"
	}
	return who + " refused: " + r.Message + " (" + r.Code + ")"
}

// As lets errors.As read the refusal as a *Refusal, which stays another
// service's.
func (r *RemoteRefusal) As(target any) bool {
	t, ok := target.(**Refusal)
	if ok {
		*t = &Refusal{Code: r.Code, Message: r.Message, remote: true}
	}
	return ok
}

// RefusalOf returns the refusal that err is when a handler returns it, and nil
// if it is none: only what Refuse made counts, wrapped or not, and never what
// another service answered. Packages that wrap handlers, like inbox, use it.
func RefusalOf(err error) *Refusal {
	switch e := err.(type) { // not errors.As, which asks RemoteRefusal.As
	case nil:
		return nil
	case *Refusal:
		if e == nil || e.remote {
			return nil
		}
		return e
	case interface{ Unwrap() error }:
		return RefusalOf(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if r := RefusalOf(err); r != nil {
				return r
			}
		}
	}
	return nil
}

// Package embedded runs a NATS server with JetStream inside the process: no
// server to install, nothing listening unless asked for, and the same transport
// ([natsbus]) as with a server of its own, so a program outgrows it by changing
// its URL.
//
// Importing it registers the scheme embedded:
//
//	embedded:                                       the default directory
//	embedded:/var/lib/shop                          this directory
//	embedded:?dir=data&listen=127.0.0.1:4222        other processes reach it under nats://127.0.0.1:4222
//	embedded:?sync=always                           survives a loss of power, at about an eighth of the rate
//
// Several services of one process that name one directory share a server.
//
// What a kill of the process loses: nothing that was confirmed. What a loss of
// power loses: what was confirmed since the last write to the disk, two minutes
// at most unless told otherwise. After a stop that was not clean the server has
// another incarnation (driver.Incarnated), and who keeps what it published for
// twice that time, as the outbox does, publishes it again. Clients over nats://
// see the incarnation too: it is part of the server's name.
package embedded

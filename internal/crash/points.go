package crash

// The writer: a transaction and the messages that it leaves behind.
var (
	WriterBegun     = point(Writer, "begun", "a transaction is open", "loses the transaction, as it was not confirmed")
	WriterHandled   = point(Writer, "handled", "the function has run, nothing is written of its messages", "the same")
	WriterWritten   = point(Writer, "written", "messages, replies and token are written, the commit is not sent", "the same; no message of it may be seen")
	WriterSent      = point(Writer, "sent", "the commit is on its way, or has come, and is not answered", "the transaction is there with all its messages, or not at all")
	WriterUnknown   = point(Writer, "unknown", "the commit's answer was lost, its token is not yet looked for", "the same")
	WriterResolved  = point(Writer, "resolved", "the token was inserted again", "the same, and the token says which")
	WriterCommitted = point(Writer, "committed", "the commit is answered, the relay not woken", "must lose nothing: a poll finds it")
)

// The relay: one term of one shard.
var (
	RelayLeased    = point(Relay, "leased", "the lease is taken, the cursor not read", "nobody publishes until the lease has passed")
	RelayResumed   = point(Relay, "resumed", "the cursor is read", "the same")
	RelayRead      = point(Relay, "read", "a page is read; where there are snapshots, its target is committed", "must lose nothing: what was read is read again")
	RelaySent      = point(Relay, "sent", "a batch is handed over and may be confirmed, which nobody has looked at", "publishes the batch again")
	RelayConfirmed = point(Relay, "confirmed", "the broker has confirmed, the cursor has not moved", "publishes again what came after the cursor")
	RelayMoving    = point(Relay, "moving", "cursor and held rows are written, not committed", "the same; a row may not be held without the cursor, nor passed without being held")
	RelayAdvanced  = point(Relay, "advanced", "the cursor has moved", "repeats nothing that it has passed")
	RelayHeld      = point(Relay, "held", "rows are set aside and the cursor has passed them", "must lose none of them, nor their order")
	RelayDrained   = point(Relay, "drained", "held rows are confirmed, not released", "publishes them again")
	RelayReleased  = point(Relay, "released", "held rows are released", "repeats none of them")
	RelayPromoting = point(Relay, "promoting", "due rows are moved into the outbox, not committed", "must neither lose nor double them")
	RelayPromoted  = point(Relay, "promoted", "due rows are in the outbox", "the same")
	RelayRetiring  = point(Relay, "retiring", "published rows are deleted, not committed", "must delete no other")
	RelayRetired   = point(Relay, "retired", "published rows are gone", "the same")
	RelayRewound   = point(Relay, "rewound", "the cursor is set back, since the broker was started again", "publishes again what is retained")
	RelayLeft      = point(Relay, "left", "the term is over, the lease given back", "repeats nothing")
)

// The inbox: the transaction of a handler, and of a dead letter.
var (
	InboxEntered   = point(Inbox, "entered", "the row is entered, the handler has not run", "the message comes again and is new")
	InboxHandled   = point(Inbox, "handled", "the handler has run; its messages and its answer are not written", "the same; neither effect nor message of it may be seen")
	InboxUnknown   = point(Inbox, "unknown", "the commit's answer was lost, the row is not yet looked for", "the message comes again and is a duplicate, or new")
	InboxCommitted = point(Inbox, "committed", "row, effect and outgoing messages are committed, the message is not settled", "the message comes again, is a duplicate, and gets the same answer")
	InboxMarked    = point(Inbox, "marked", "the row says dead, not committed", "the message comes again and becomes the same dead letter")
)

// The consumer: from receiving to settling.
var (
	ConsumerReceived        = point(Consumer, "received", "messages are received, none is begun", "they come again")
	ConsumerHandled         = point(Consumer, "handled", "a handler has returned", "its message comes again")
	ConsumerReplied         = point(Consumer, "replied", "an answer is sent, its request not settled", "the request comes again and is answered again")
	ConsumerDeadLetterSent  = point(Consumer, "dead-letter-sent", "a dead letter is sent; its message is not settled, the inbox does not know", "it is made once more, under the same id")
	ConsumerDeadLetterNoted = point(Consumer, "dead-letter-noted", "the inbox knows of a dead letter, its message is not settled", "the same")
	ConsumerSettling        = point(Consumer, "settling", "answers and dead letters are sent", "what is being settled comes again")
	ConsumerSettled         = point(Consumer, "settled", "messages are settled", "repeats none of them")
)

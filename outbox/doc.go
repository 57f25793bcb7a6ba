// Package outbox commits messages together with the changes that cause them
// (Transactional outbox in Microservices Patterns). The messages are written to the
// database in the business transaction. A relay, which runs as long as the service
// does, publishes them to the broker afterwards.
//
//	box := outbox.New(svc, db)
//	err := box.Do(ctx, func(ctx context.Context, tx *sql.Tx, out dovetail.Sender) error {
//		if _, err := tx.ExecContext(ctx, `INSERT INTO orders …`); err != nil {
//			return err
//		}
//		return OrderPlaced.Publish(ctx, out, order)
//	})
//
// Messages of a transaction that was rolled back are never published. Messages of a
// committed one are sent again until the broker has confirmed them, also if the process
// is killed at any point. The broker may get a message more than once, with the same
// id. Do writes messages just before the commit. So messages of one key are published
// in the order in which their transactions held a lock that they share.
package outbox

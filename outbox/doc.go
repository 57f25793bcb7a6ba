// Package outbox commits messages together with the changes that cause them
// (Transactional outbox in Microservices Patterns): they are written in the
// business transaction and moved to the broker afterwards by a relay, which
// runs as long as the service does.
//
//	box := outbox.New(svc, db)
//	err := box.Do(ctx, func(ctx context.Context, tx *sql.Tx, out dovetail.Sender) error {
//		if _, err := tx.ExecContext(ctx, `INSERT INTO orders …`); err != nil {
//			return err
//		}
//		return OrderPlaced.Publish(ctx, out, order)
//	})
//
// What a rolled-back transaction published is never seen; what a committed one
// published is confirmed by the broker at least once, also if the process is
// killed at any point. Messages of one key are published in the order in which
// their transactions held a lock that they share, since they are written just
// before the commit.
package outbox

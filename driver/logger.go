package driver

import (
	"context"
	"log/slog"
)

type loggerKey struct{}

// WithLogger returns a context with which Open makes connections that log to l. A
// nil l stands for slog.Default().
func WithLogger(ctx context.Context, l *slog.Logger) context.Context {
	return context.WithValue(ctx, loggerKey{}, l)
}

// Logger returns the logger of WithLogger, or slog.Default() where ctx has none. An
// Opener gives it to the connection that it makes. It is never nil.
func Logger(ctx context.Context) *slog.Logger {
	if l, _ := ctx.Value(loggerKey{}).(*slog.Logger); l != nil {
		return l
	}
	return slog.Default()
}

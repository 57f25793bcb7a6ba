package driver

import (
	"context"
	"log/slog"
)

type loggerKey struct{}

// WithLogger returns a context in which connections that Open makes log to l.
func WithLogger(ctx context.Context, l *slog.Logger) context.Context {
	return context.WithValue(ctx, loggerKey{}, l)
}

// Logger is where a connection logs that is opened with ctx: what WithLogger
// says, or slog.Default(). Openers give it to the connections that they make.
func Logger(ctx context.Context) *slog.Logger {
	if l, _ := ctx.Value(loggerKey{}).(*slog.Logger); l != nil {
		return l
	}
	return slog.Default()
}

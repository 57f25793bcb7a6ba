module github.com/dovetail-go/dovetail/examples/eshop

go 1.26.0

require (
	github.com/dovetail-go/dovetail v0.0.0
	github.com/dovetail-go/dovetail/store/sqlitestore v0.0.0
	github.com/dovetail-go/dovetail/transport/natsbus v0.0.0
	github.com/dovetail-go/dovetail/transport/natsbus/embedded v0.0.0
	github.com/nats-io/nats-server/v2 v2.15.3
)

require (
	github.com/antithesishq/antithesis-sdk-go v0.9.0-default-no-op // indirect
	github.com/dustin/go-humanize v1.1.0 // indirect
	github.com/google/go-tpm v0.9.8 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/klauspost/compress v1.20.4 // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	github.com/minio/highwayhash v1.0.4 // indirect
	github.com/nats-io/jwt/v2 v2.8.3 // indirect
	github.com/nats-io/nats.go v1.55.0 // indirect
	github.com/nats-io/nkeys v0.4.17 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	github.com/ncruces/go-strftime v1.1.0 // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	golang.org/x/crypto v0.59.0 // indirect
	golang.org/x/sys v0.50.0 // indirect
	golang.org/x/time v0.16.0 // indirect
	modernc.org/libc v1.80.1 // indirect
	modernc.org/mathutil v1.7.1 // indirect
	modernc.org/memory v1.12.1 // indirect
	modernc.org/sqlite v1.62.0 // indirect
)

replace (
	github.com/dovetail-go/dovetail => ../..
	github.com/dovetail-go/dovetail/store/sqlitestore => ../../store/sqlitestore
	github.com/dovetail-go/dovetail/transport/natsbus => ../../transport/natsbus
	github.com/dovetail-go/dovetail/transport/natsbus/embedded => ../../transport/natsbus/embedded
)

module github.com/dovetail-go/dovetail/cmd/dovetail

go 1.26.0

require (
	github.com/dovetail-go/dovetail v0.0.0
	github.com/dovetail-go/dovetail/bench v0.0.0
	github.com/dovetail-go/dovetail/examples/eshop v0.0.0
	github.com/dovetail-go/dovetail/store/pgstore v0.0.0
	github.com/dovetail-go/dovetail/store/sqlitestore v0.0.0
	github.com/dovetail-go/dovetail/transport/kafkabus v0.0.0
	github.com/dovetail-go/dovetail/transport/natsbus v0.0.0
	github.com/dovetail-go/dovetail/transport/natsbus/embedded v0.0.0
	github.com/dovetail-go/dovetail/transport/rabbitbus v0.0.0
	github.com/jackc/pgx/v5 v5.13.0
	github.com/nats-io/nats-server/v2 v2.15.3
	github.com/nats-io/nats.go v1.55.0
	github.com/rabbitmq/amqp091-go v1.16.0
	github.com/rogpeppe/go-internal v1.16.0
	github.com/spf13/cobra v1.10.2
	github.com/twmb/franz-go v1.22.3
	github.com/twmb/franz-go/pkg/kadm v1.20.0
	github.com/twmb/franz-go/pkg/kfake v0.0.0-20260918054303-01f206a7e32c
	github.com/twmb/franz-go/pkg/kmsg v1.15.1
	gopkg.in/yaml.v3 v3.0.1
)

require (
	github.com/HdrHistogram/hdrhistogram-go v1.4.0 // indirect
	github.com/antithesishq/antithesis-sdk-go v0.9.0-default-no-op // indirect
	github.com/dustin/go-humanize v1.1.0 // indirect
	github.com/google/go-tpm v0.9.8 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	github.com/klauspost/compress v1.20.4 // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	github.com/minio/highwayhash v1.0.4 // indirect
	github.com/nats-io/jwt/v2 v2.8.3 // indirect
	github.com/nats-io/nkeys v0.4.17 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	github.com/ncruces/go-strftime v1.1.0 // indirect
	github.com/pierrec/lz4/v4 v4.1.33 // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	github.com/spf13/pflag v1.1.0 // indirect
	golang.org/x/crypto v0.59.0 // indirect
	golang.org/x/sync v0.25.0 // indirect
	golang.org/x/sys v0.50.0 // indirect
	golang.org/x/text v0.44.0 // indirect
	golang.org/x/time v0.16.0 // indirect
	golang.org/x/tools v0.52.0 // indirect
	modernc.org/libc v1.80.1 // indirect
	modernc.org/mathutil v1.7.1 // indirect
	modernc.org/memory v1.12.1 // indirect
	modernc.org/sqlite v1.62.0 // indirect
)

replace (
	github.com/dovetail-go/dovetail => ../..
	github.com/dovetail-go/dovetail/bench => ../../bench
	github.com/dovetail-go/dovetail/examples/eshop => ../../examples/eshop
	github.com/dovetail-go/dovetail/store/pgstore => ../../store/pgstore
	github.com/dovetail-go/dovetail/store/sqlitestore => ../../store/sqlitestore
	github.com/dovetail-go/dovetail/transport/kafkabus => ../../transport/kafkabus
	github.com/dovetail-go/dovetail/transport/natsbus => ../../transport/natsbus
	github.com/dovetail-go/dovetail/transport/natsbus/embedded => ../../transport/natsbus/embedded
	github.com/dovetail-go/dovetail/transport/rabbitbus => ../../transport/rabbitbus
)

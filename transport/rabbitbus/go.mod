module github.com/dovetail-go/dovetail/transport/rabbitbus

go 1.26.0

require (
	github.com/dovetail-go/dovetail v0.0.0
	github.com/rabbitmq/amqp091-go v1.16.0
)

replace github.com/dovetail-go/dovetail => ../..

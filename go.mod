module github.com/dovetail-go/dovetail

go 1.26.0

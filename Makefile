# Every target is one line here; what it does is Go, in internal/house/dev.
DEV := go run ./internal/house/dev

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

.PHONY: test
test: ## all checks, and the tests under the race detector
	@$(DEV) test

.PHONY: check
check: ## format, vet, lint, build and tidy each module by itself, house rules, drift, dependencies
	@$(DEV) check

.PHONY: bench
bench: ## Dovetail beside the raw clients, then the benchmarks of every package
	@go run ./cmd/dovetail bench --transport all
	@$(DEV) bench

.PHONY: fuzz
fuzz: ## each fuzz target for a minute; FOR=10m for longer
	@$(DEV) fuzz $(if $(FOR),-for $(FOR))

.PHONY: docs
docs: ## copy code again into the documents that show it
	@$(DEV) docs

.PHONY: up
up: ## start real servers in the background, all or ONLY="nats postgres"; print their URLs
	@go run ./servers/cmd/servers up $(ONLY) $(if $(WITHOUT),--without $(WITHOUT))

.PHONY: down
down: ## end what make up started, and remove its data
	@go run ./servers/cmd/servers down

.PHONY: release
release: ## rehearse the release VERSION=v1.2.3: build, install and consume it; TAG=1 tags it
	@$(DEV) release $(if $(VERSION),-version $(VERSION)) $(if $(TAG),-tag)

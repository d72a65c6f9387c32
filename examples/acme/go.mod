module github.com/seed-014b8713/sslfilter/examples/acme

go 1.25.0

require (
	github.com/seed-014b8713/sslfilter v0.0.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/crypto v0.55.0
	golang.org/x/sync v0.22.0
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/net v0.58.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/text v0.41.0 // indirect
)

replace github.com/seed-014b8713/sslfilter => ../..

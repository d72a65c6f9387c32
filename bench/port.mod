// go.mod of the benchmark with compat/spacemonkeygo in place of the module that it replaces.
module github.com/seed-014b8713/sslfilter/bench

go 1.25.0

require (
	github.com/libp2p/go-openssl v0.1.0
	github.com/seed-014b8713/sslfilter v0.0.0
	github.com/spacemonkeygo/openssl v0.0.0-20181017203307-c2dcc5cca94a
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/mattn/go-pointer v0.0.1 // indirect
	github.com/spacemonkeygo/spacelog v0.0.0-20180420211403-2296661a0572 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/net v0.58.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/text v0.41.0 // indirect
)

replace github.com/seed-014b8713/sslfilter => ../

replace github.com/spacemonkeygo/openssl => ../compat/spacemonkeygo

module github.com/spacemonkeygo/openssl

go 1.25.0

require github.com/seed-014b8713/sslfilter v0.0.0

require golang.org/x/sys v0.47.0 // indirect

replace github.com/seed-014b8713/sslfilter => ../..

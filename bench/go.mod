module github.com/seed-014b8713/sslfilter/bench

go 1.25.0

require github.com/seed-014b8713/sslfilter v0.0.0

replace github.com/seed-014b8713/sslfilter => ../

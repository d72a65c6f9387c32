module github.com/seed-014b8713/sslfilter

go 1.25

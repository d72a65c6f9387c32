package sslstaple

import (
	"context"
	"time"
)

// WithWait replaces the timer of Keep.
func WithWait(o Options, wait func(ctx context.Context, d time.Duration) error) Options {
	o.wait = wait
	return o
}

// Bounds that are not public.
const (
	MinWait     = minWait
	MaxRetry    = maxRetry
	MaxWithout  = maxWithout
	MaxResponse = maxResponse
)

// Package sslstaple keeps the OCSP response of a server's certificate fresh: it
// fetches the response from the responder of the CA and puts it into a
// sslfilter.Staple, which verifies it.
//
//	staple := new(sslfilter.Staple)
//	ctx, err := sslfilter.NewCtx(sslfilter.Options{Chain: "chain.pem", Key: "key.pem", Staple: staple})
//	// check err
//	go sslstaple.Keep(context.Background(), staple, sslstaple.Options{})
package sslstaple

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/seed-014b8713/sslfilter"
)

// Options configures Fetch and Keep. The zero value is ready to use.
type Options struct {
	// URL is the responder. Default: those that the certificate names, of which
	// the first one that answers is used.
	URL string
	// Client sends the requests. Default: http.DefaultClient.
	Client *http.Client
	// Log receives a message for each event. Default: none.
	Log *slog.Logger
	// Event is called by Keep after each attempt. Default: none.
	Event func(Event)

	wait func(ctx context.Context, d time.Duration) error // nil: a timer; tests replace it
}

// Event is the result of one attempt of Keep.
type Event struct {
	// Err is the reason why no new response was fetched, or nil.
	Err error
	// Result is the state of the Staple after the attempt. It can still be good
	// after an error.
	Result sslfilter.OCSPResult
	// Next is the time until the next attempt.
	Next time.Duration
}

const (
	// maxResponse bounds a response, in bytes. A Staple takes 16 KiB.
	maxResponse = 64 << 10
	// fetchTimeout bounds the time for one request to one responder.
	fetchTimeout = 15 * time.Second
	// minWait is the shortest time until the next attempt.
	minWait = time.Minute
	// maxWait bounds the time until the next attempt.
	maxWait = 7 * 24 * time.Hour
	// maxRetry bounds the pause after failures, which begins with minWait and doubles.
	maxRetry = time.Hour
	// maxWithout bounds the pause after failures without a valid response. nginx
	// waits as long.
	maxWithout = 5 * time.Minute
	// undated is the time for which a response without nextUpdate is accepted.
	undated = 24 * time.Hour
)

// Fetch fetches one response and puts it into staple, which must be used by a
// Ctx that knows the issuer of the certificate: it is in the chain that is sent,
// or in CACrt. A response that is older than that of the Staple is an error. After
// an error the Staple keeps its response.
func Fetch(ctx context.Context, staple *sslfilter.Staple, o Options) error {
	request, err := staple.Request()
	if err != nil {
		return err
	}
	urls, err := o.responders(staple)
	if err != nil {
		return err
	}
	var errs []error
	for _, u := range urls {
		der, err := o.post(ctx, u, request)
		if err == nil {
			err = staple.Set(der)
		}
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("sslstaple: %s: %w", u, err))
	}
	return errors.Join(errs...)
}

// Keep fetches a response at once, unless the Staple has one that says "good", and
// a new one after half of its validity, until ctx ends. If a responder does not
// answer, or its response is not acceptable, Keep tries again, at first after a
// minute and later every hour, and the Staple keeps its response until that
// expires. Shortly before and after the expiry Keep tries more often: it never
// waits longer than half of the time for which the response is still valid, and
// without a response no longer than five minutes.
//
// Keep returns the error of ctx. It returns another error at once if it could
// never succeed: the certificate names no responder, or its issuer is not known.
func Keep(ctx context.Context, staple *sslfilter.Staple, o Options) error {
	if _, err := o.responders(staple); err != nil {
		return err
	}
	var unknown *sslfilter.UsageError // other errors, such as a lack of memory, may go away
	if _, err := staple.Request(); errors.As(err, &unknown) {
		return err
	}
	wait := o.wait
	if wait == nil {
		wait = sleep
	}
	if s := staple.Status(); s.Status == sslfilter.OCSPGood { // of an earlier Keep, for example before a reload
		if err := wait(ctx, untilRefresh(s)); err != nil {
			return err
		}
	}
	for failed := 0; ; {
		err := Fetch(ctx, staple, o)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		result := staple.Status()
		next := untilRefresh(result)
		if err != nil {
			next = untilRetry(failed, result)
			failed++
		} else {
			failed = 0
		}
		o.report(Event{err, result, next})
		if err := wait(ctx, next); err != nil {
			return err
		}
	}
}

func (o *Options) report(e Event) {
	if o.Event != nil {
		o.Event(e)
	}
	if o.Log == nil {
		return
	}
	switch {
	case e.Err != nil:
		o.Log.Warn("OCSP response not refreshed", "error", e.Err, "current", e.Result.String(), "until", e.Result.NextUpdate, "retry", e.Next)
	case e.Result.Status == sslfilter.OCSPRevoked:
		o.Log.Error("OCSP response fetched: the certificate is revoked", "response", e.Result.String(), "next", e.Next)
	default:
		o.Log.Info("OCSP response fetched", "response", e.Result.String(), "until", e.Result.NextUpdate, "next", e.Next)
	}
}

// untilRefresh returns the time until half of the validity of a response has
// passed. After that, it is half of the remaining time.
func untilRefresh(r sslfilter.OCSPResult) time.Duration {
	d := time.Until(r.ThisUpdate.Add(expiry(r).Sub(r.ThisUpdate) / 2))
	if d < minWait {
		d = time.Until(expiry(r)) / 2
	}
	return min(max(jitter(d), minWait), maxWait)
}

// untilRetry returns the time until the next attempt after a number of failures
// before this one. r is the state of the Staple.
func untilRetry(failed int, r sslfilter.OCSPResult) time.Duration {
	limit := maxWithout
	if r.Status == sslfilter.OCSPGood || r.Status == sslfilter.OCSPRevoked {
		limit = min(maxRetry, time.Until(expiry(r))/2)
	}
	return jitter(max(min(minWait<<min(failed, 10), limit), minWait))
}

// expiry returns the time at which the response expires.
func expiry(r sslfilter.OCSPResult) time.Time {
	if r.NextUpdate.IsZero() {
		return r.ThisUpdate.Add(undated)
	}
	return r.NextUpdate
}

// jitter spreads the requests of many servers: it subtracts up to a tenth.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(max(d, 10))/10))
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Validate returns an error if URL is set and is not an HTTP URL. Fetch and Keep return
// the same error.
func (o *Options) Validate() error {
	if o.URL == "" {
		return nil
	}
	return checkURL(o.URL)
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return fmt.Errorf("sslstaple: %w", err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("sslstaple: %q is not an HTTP URL", text)
	}
	return nil
}

// responders returns the URLs that Fetch uses, or an error if none is usable.
func (o *Options) responders(staple *sslfilter.Staple) (urls []string, err error) {
	candidates := staple.Responders()
	if o.URL != "" {
		candidates = []string{o.URL}
	}
	for _, text := range candidates {
		if bad := checkURL(text); bad != nil {
			err = bad
		} else {
			urls = append(urls, text)
		}
	}
	if len(urls) == 0 {
		return nil, cmp.Or(err, ErrNoResponder)
	}
	return urls, nil
}

// ErrNoResponder is returned if the certificate names no OCSP responder and
// Options.URL is empty.
var ErrNoResponder = errors.New("sslstaple: the certificate names no OCSP responder")

// post sends a request (RFC 6960 appendix A.1).
func (o *Options) post(ctx context.Context, responder string, request []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, responder, bytes.NewReader(request))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/ocsp-request")
	r.Header.Set("Accept", "application/ocsp-response")
	client := o.Client
	if client == nil {
		client = http.DefaultClient
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the responder sent the status %s", answer.Status)
	}
	der, err := io.ReadAll(io.LimitReader(answer.Body, maxResponse+1))
	switch {
	case err != nil:
		return nil, err
	case len(der) == 0:
		return nil, errors.New("the responder sent no response")
	case len(der) > maxResponse:
		return nil, fmt.Errorf("the response has more than %d bytes", maxResponse)
	}
	return der, nil
}

package relay

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/servernames"
)

// serverNames shows the relay of each server name, for the listeners on which the name
// chooses the relay. A state is nil if the relay has an error.
func (r *report) serverNames(c *config.Config, states []*state) {
	for _, l := range c.Listeners() {
		if slices.ContainsFunc(l.Relays, func(i int) bool { return states[i] == nil }) {
			continue
		}
		sec, err := newSections(l, states)
		if err == nil && sec.names == nil {
			continue
		}
		fmt.Fprintf(r.w, "\nlistener %v, by server name\n", l.Endpoint)
		if err != nil {
			r.wrong("%v", err)
			continue
		}
		r.nameTable(sec)
		for _, st := range sec.all {
			r.uncovered(st)
		}
	}
}

func (r *report) nameTable(sec *sections) {
	w := tabwriter.NewWriter(r.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  name\trelay\tmode\tcertificate\tserial\texpires\tclient certs\tbackend")
	row := func(name string, st *state) {
		var subjects, serials, expires []string
		for _, own := range st.own {
			subjects, serials = append(subjects, own.names.Subject), append(serials, sslfilter.Hexdump(own.Serial))
			expires = append(expires, day(own.NotAfter))
		}
		backend := "by user"
		if st.backend != nil {
			backend = st.backend.String()
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, st.conf.Name, st.conf.Mode,
			strings.Join(subjects, "; "), strings.Join(serials, "; "), strings.Join(slices.Compact(expires), "; "), clientCerts(&st.conf.Server), backend)
	}
	for _, st := range sec.all {
		for _, name := range st.names {
			row(name, st)
		}
	}
	const others = "all others, or none"
	if sec.others != nil {
		row(others, sec.others)
	} else {
		fmt.Fprintf(w, "  %s\trejected with the alert unrecognized_name\n", others)
	}
	w.Flush()
}

// clientCerts describes what a relay does about client certificates.
func clientCerts(t *config.TLS) string {
	switch {
	case t.RequireValidClientCert, t.BlockInvalidClientCert && t.BlockBadClientCert:
		return "valid one required"
	case t.BlockInvalidClientCert:
		return "valid one or none"
	case t.ClientCert && t.BlockBadClientCert:
		return "any one required"
	case t.ClientCert:
		return "requested, none required"
	}
	return "not requested"
}

// uncovered reports the server names that one of the relay's certificates does not
// have.
func (r *report) uncovered(st *state) {
	for _, name := range st.conf.ServerNames {
		missing := func(dnsNames []string) bool { return !servernames.Covers(dnsNames, config.NameKey(name)) }
		if slices.ContainsFunc(st.dnsNames(), missing) {
			r.weak("servernames: %s is not in the certificate of relay %q", name, st.conf.Name)
		}
	}
}

// notCommon reports the DNS names that only some of the relay's certificates have. A
// client that asks for one of them could get a certificate that is not valid for it.
func (r *report) notCommon(st *state) {
	var reported []string
	common := servernames.Common(st.dnsNames()...)
	for _, name := range slices.Concat(st.dnsNames()...) {
		name = servernames.Fold(name)
		if st.conf.ServerNames == nil && config.ValidServerName(name) && !servernames.Covers(common, name) && !slices.Contains(reported, name) {
			reported = append(reported, name)
			r.weak("identities: %s is not in all certificates of relay %q", name, st.conf.Name)
		}
	}
}

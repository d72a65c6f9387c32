package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// NeedsRestart names the differences between two configurations that a reload
// cannot apply. It is empty if there are none. Relays with the same name are compared.
// A relay may be added or removed if that opens and closes no address.
func NeedsRestart(before, now *Config) string {
	changed := changedKeys(before, now, nil, nil)
	for i := range now.Relays {
		if old := before.relay(now.Relays[i].Name); old != nil {
			changed = append(changed, changedKeys(nil, nil, old, &now.Relays[i])...)
		}
	}
	open, wanted := before.Listeners(), now.Listeners()
	for _, l := range wanted {
		if !hasListener(open, l.Key) {
			changed = append(changed, fmt.Sprintf("listen of relay %q (%v is new)", now.Relays[l.Relays[0]].Name, l.Endpoint))
		}
	}
	for _, l := range open {
		if !hasListener(wanted, l.Key) {
			changed = append(changed, fmt.Sprintf("listen of relay %q (%v is missing)", before.Relays[l.Relays[0]].Name, l.Endpoint))
		}
	}
	return strings.Join(changed, ", ")
}

func (c *Config) relay(name string) *Relay {
	if i := slices.IndexFunc(c.Relays, func(r Relay) bool { return r.Name == name }); i >= 0 {
		return &c.Relays[i]
	}
	return nil
}

func hasListener(list []Listener, key string) bool {
	return slices.ContainsFunc(list, func(l Listener) bool { return l.Key == key })
}

// changedKeys names the options of the program, or of a relay, that differ and
// need a restart.
func changedKeys(before, now *Config, relayBefore, relayNow *Relay) (changed []string) {
	mode, of := "", ""
	if relayNow != nil {
		mode, of = relayBefore.Mode, fmt.Sprintf(" of relay %q", relayBefore.Name)
	}
	for i := range options {
		o := &options[i]
		if o.inRelay() != (relayNow != nil) || o.restart != always && (o.restart == "" || o.restart != mode) {
			continue
		}
		if !reflect.DeepEqual(o.value(before, relayBefore).Interface(), o.value(now, relayNow).Interface()) {
			changed = append(changed, o.key+of)
		}
	}
	return changed
}

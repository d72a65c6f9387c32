package config

import (
	"fmt"
	"reflect"
	"strings"
)

// NeedsRestart names the differences between two configurations that a reload
// cannot apply. It is empty if there are none.
func NeedsRestart(before, now *Config) string {
	changed := changedKeys(before, now, nil, nil)
	if len(before.Relays) != len(now.Relays) {
		return strings.Join(append(changed, "the number of relays"), ", ")
	}
	for i := range now.Relays {
		changed = append(changed, changedKeys(nil, nil, &before.Relays[i], &now.Relays[i])...)
	}
	return strings.Join(changed, ", ")
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

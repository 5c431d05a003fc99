package config

import (
	"strings"

	"github.com/spf13/pflag"
)

// AddFlags adds the flags of all keys that have one, and --config.
func AddFlags(flags *pflag.FlagSet) {
	flags.String("config", "", "configuration `file` (default "+defaultConfig+" where that exists)")
	for _, k := range keyTable() {
		if k.Flag == "" {
			continue
		}
		help := strings.ToLower(k.Help[:1]) + strings.TrimSuffix(k.Help[1:], ".")
		help = strings.ReplaceAll(help, "`", "'") // which would name the value
		if k.Default != "" {
			help += " (default " + k.Default + ")"
		}
		if k.list {
			flags.StringSlice(k.Flag, nil, help)
		} else {
			flags.String(k.Flag, "", help)
		}
	}
}

// FromFlags completes Sources with the flags that were given.
func (s Sources) FromFlags(flags *pflag.FlagSet) Sources {
	s.Flags = make(map[string]string)
	for _, k := range keyTable() {
		f := flags.Lookup(k.Flag)
		if k.Flag == "" || f == nil || !f.Changed {
			continue
		}
		if values, ok := f.Value.(pflag.SliceValue); ok {
			s.Flags[k.Flag] = strings.Join(values.GetSlice(), ",")
		} else {
			s.Flags[k.Flag] = f.Value.String()
		}
	}
	if f := flags.Lookup("config"); f != nil && f.Changed {
		s.File = f.Value.String()
	}
	return s
}

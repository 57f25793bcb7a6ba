package driver

import "fmt"

// ValidName returns an error unless name can be a channel's or a group's name
// on every transport: 1 to 200 characters, lower-case ASCII letters, digits,
// '.', '-' and '_', beginning and ending with a letter or digit, no two dots
// in a row.
func ValidName(name string) error {
	if name == "" || len(name) > 200 {
		return fmt.Errorf("name %q: want 1 to 200 characters", name)
	}
	for i := range len(name) {
		c := name[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		edge := i == 0 || i == len(name)-1
		switch {
		case alnum:
		case (c == '.' || c == '-' || c == '_') && !edge && !(c == '.' && name[i-1] == '.'):
		default:
			return fmt.Errorf("name %q: character %q at %d: want lower-case letters and digits, with '.', '-' or '_' between them", name, c, i)
		}
	}
	return nil
}

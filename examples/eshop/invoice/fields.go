package invoice

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// split cuts a line into its fields. A field that begins with a quote ends with
// one; within it a quote is written twice. A quote that is not closed is a
// character like any other.
func split(dst []string, line string, sep byte) []string {
	for {
		field, rest, more := cutField(line, sep)
		dst = append(dst, field)
		if !more {
			return dst
		}
		line = rest
	}
}

func cutField(line string, sep byte) (field, rest string, more bool) {
	if strings.HasPrefix(line, `"`) {
		if field, rest, more, ok := cutQuoted(line[1:], sep); ok {
			return field, rest, more
		}
	}
	i := strings.IndexByte(line, sep)
	if i < 0 {
		return line, "", false
	}
	return line[:i], line[i+1:], true
}

func cutQuoted(line string, sep byte) (field, rest string, more, ok bool) {
	for from := 0; ; {
		i := strings.IndexByte(line[from:], '"')
		if i < 0 {
			return "", "", false, false
		}
		i += from
		switch {
		case i+1 == len(line):
			return strings.ReplaceAll(line[:i], `""`, `"`), "", false, true
		case line[i+1] == sep:
			return strings.ReplaceAll(line[:i], `""`, `"`), line[i+2:], true, true
		case line[i+1] == '"':
			from = i + 2
		default:
			return "", "", false, false
		}
	}
}

var errNumber = errors.New("is no number")

// hundredths reads a number with at most two decimals, whichever mark it uses:
// 2.55, 2,55, 1.234,50, 1,234.50. A mark followed by exactly three digits could
// be either; a number with only such a mark is not guessed at.
func hundredths(text string) (int64, error) {
	text = strings.TrimPrefix(strings.TrimSpace(text), "£")
	digits, negative := strings.CutPrefix(text, "-")
	mark := strings.LastIndexAny(digits, ".,")
	whole, fraction := digits, ""
	if mark >= 0 {
		whole, fraction = digits[:mark], digits[mark+1:]
		other := strings.ContainsAny(whole, ".,")
		switch {
		case other && strings.IndexByte(whole, digits[mark]) >= 0: // 1,234,567
			whole, fraction = digits, ""
		case !other && len(fraction) == 3 && strings.TrimLeft(whole, "0") != "":
			return 0, fmt.Errorf("may mean thousands or three decimals")
		}
	}
	whole, err := ungroup(whole)
	if err != nil {
		return 0, err
	}
	fraction = strings.TrimRight(fraction, "0")
	if len(fraction) > 2 {
		return 0, fmt.Errorf("has more than two decimals")
	}
	if !strings.ContainsAny(digits, "0123456789") {
		return 0, errNumber
	}
	n, err := strconv.ParseUint("0"+whole+(fraction + "00")[:2], 10, 63)
	if err != nil {
		return 0, errNumber
	}
	if negative {
		return -int64(n), nil
	}
	return int64(n), nil
}

// ungroup takes the marks between groups of three digits out of a number.
func ungroup(whole string) (string, error) {
	if !strings.ContainsAny(whole, ".,") {
		return whole, nil
	}
	groups := strings.FieldsFunc(whole, func(r rune) bool { return r == '.' || r == ',' })
	if strings.Count(whole, ".") > 0 && strings.Count(whole, ",") > 0 || len(groups)-1 != strings.Count(whole, ".")+strings.Count(whole, ",") {
		return "", errNumber
	}
	for i, g := range groups {
		if i > 0 && len(g) != 3 || len(g) > 3 {
			return "", errNumber
		}
	}
	return strings.Join(groups, ""), nil
}

// dateParts reads three numbers with /, . or - between them.
func dateParts(s string) (parts [3]int, ok bool) {
	fields := strings.FieldsFunc(s, func(r rune) bool { return r == '/' || r == '.' || r == '-' })
	if len(fields) != 3 {
		return parts, false
	}
	for i, f := range fields {
		n, err := strconv.ParseUint(f, 10, 16)
		if err != nil {
			return parts, false
		}
		parts[i] = int(n)
	}
	return parts, true
}

// parseTime reads a date, with a time of day or without.
func parseTime(text string, order DateOrder) (time.Time, error) {
	text = strings.Replace(strings.TrimSpace(text), "T", " ", 1)
	date, clock, _ := strings.Cut(text, " ")
	p, ok := dateParts(date)
	if !ok {
		return time.Time{}, fmt.Errorf("is no date")
	}
	year, month, day := p[2], p[1], p[0]
	switch {
	case p[0] > 31: // 2010-12-01
		year, day = p[0], p[2]
	case order == MonthFirst:
		month, day = p[0], p[1]
	}
	if year < 100 {
		year += 2000
	}
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if t.Year() != year || int(t.Month()) != month || t.Day() != day || year > 9999 {
		return time.Time{}, fmt.Errorf("is no date with the %s", map[bool]string{true: "month first", false: "day first"}[order == MonthFirst])
	}
	clock = strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(clock)), "Z")
	if clock == "" {
		return t, nil
	}
	for _, layout := range []string{"15:04", "15:04:05", "3:04 PM", "3:04:05 PM"} {
		if c, err := time.Parse(layout, clock); err == nil {
			return t.Add(c.Sub(c.Truncate(24 * time.Hour))), nil
		}
	}
	return time.Time{}, fmt.Errorf("has no time of day such as 08:26")
}

package main

import (
	"slices"
	"testing"
)

func TestLicences_are_told_apart(t *testing.T) {
	const forms = "Redistribution and use in source and\n  binary forms, with or without modification, are permitted. "
	for text, want := range map[string][]string{
		"Apache License\n   Version 2.0, January 2004": {"Apache-2.0"},
		forms: {"BSD-2-Clause"},
		forms + "Neither the name may be used to endorse or promote products derived from this software": {"BSD-3-Clause"},
		"Permission is hereby granted, free of charge, to any person obtaining a copy":                   {"MIT"},
		"GNU GENERAL PUBLIC LICENSE Version 3":                                                           nil,
	} {
		if got := licencesIn(text); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestVersions_compare_by_number(t *testing.T) {
	if compareNumbers("v1.26.10", "v1.26.9") <= 0 || compareNumbers("v1.27.0", "v1.26.10") <= 0 {
		t.Error("versions are compared as text")
	}
}

"""The domain: plain types, rules, ports and errors. No input or output, no clock, no engine."""

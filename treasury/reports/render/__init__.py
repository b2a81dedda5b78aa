"""Showing reports: JSON, CSV, XLSX and PDF, in English and Chinese. The same report gives the same bytes."""

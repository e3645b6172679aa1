"""Settings and assets that operators and policy owners change. No Faust and no Kafka here."""

"""Plans bought with wallet money: periods with a grant, renewal, images; packs, gifts and promo codes."""

//! The regions of Oracle's cloud: their short names, which the metadata of a machine and
//! configurations may have, and the domains of their hosts.

/// The domain of a region that is not in the table.
const DOMAIN: &str = "oraclecloud.com";

/// A domain, and its regions: the name and the short name of each.
const REGIONS: &[(&str, &str)] = &[
    (
        "oraclecloud.com",
        "af-casablanca-1 lej, af-johannesburg-1 jnb, ap-batam-1 hsg, ap-chuncheon-1 yny, \
         ap-delhi-1 onm, ap-hyderabad-1 hyd, ap-kulai-2 jbp, ap-melbourne-1 mel, \
         ap-mumbai-1 bom, ap-osaka-1 kix, ap-seoul-1 icn, ap-singapore-1 sin, \
         ap-singapore-2 xsp, ap-sydney-1 syd, ap-tokyo-1 nrt, ca-montreal-1 yul, \
         ca-toronto-1 yyz, eu-amsterdam-1 ams, eu-frankfurt-1 fra, eu-madrid-1 mad, \
         eu-madrid-3 orf, eu-marseille-1 mrs, eu-milan-1 lin, eu-paris-1 cdg, \
         eu-stockholm-1 arn, eu-turin-1 nrq, eu-zurich-1 zrh, il-jerusalem-1 mtz, \
         me-abudhabi-1 auh, me-dubai-1 dxb, me-jeddah-1 jed, me-riyadh-1 ruh, \
         mx-monterrey-1 mty, mx-queretaro-1 qro, sa-bogota-1 bog, sa-santiago-1 scl, \
         sa-saopaulo-1 gru, sa-valparaiso-1 vap, sa-vinhedo-1 vcp, uk-cardiff-1 cwl, \
         uk-london-1 lhr, us-ashburn-1 iad, us-chicago-1 ord, us-phoenix-1 phx, \
         us-saltlake-2 aga, us-sanjose-1 sjc",
    ),
    (
        "oraclegovcloud.com",
        "us-gov-ashburn-1 ric, us-gov-chicago-1 pia, us-gov-phoenix-1 tus, \
         us-langley-1 lfi, us-luke-1 luf",
    ),
    ("oraclegovcloud.uk", "uk-gov-cardiff-1 brs, uk-gov-london-1 ltn"),
    ("oraclecloud8.com", "ap-chiyoda-1 nja, ap-ibaraki-1 ukb"),
    ("oraclecloud9.com", "me-dcc-muscat-1 mct, me-ibri-1 ibr"),
    ("oraclecloud10.com", "ap-dcc-canberra-1 wga"),
    (
        "oraclecloud14.com",
        "eu-dcc-dublin-1 ork, eu-dcc-dublin-2 snn, eu-dcc-milan-1 bgy, eu-dcc-milan-2 mxp, \
         eu-dcc-rating-1 dus, eu-dcc-rating-2 dtm",
    ),
    ("oraclecloud15.com", "ap-dcc-gazipur-1 dac"),
    ("oraclecloud.eu", "eu-frankfurt-2 str, eu-madrid-2 vll"),
    ("oraclecloud20.com", "eu-jovanovac-1 beg"),
    ("oraclecloud21.com", "me-alrayyan-1 vve, me-dcc-doha-1 doh"),
    ("oraclecloud23.com", "us-somerset-1 ebb, us-thames-1 ebl"),
    ("oraclecloud24.com", "eu-crissier-1 avf, eu-dcc-zurich-1 avz"),
    ("oraclecloud26.com", "me-abudhabi-3 ahu, me-alain-1 rba"),
    ("oraclecloud29.com", "me-abudhabi-2 rkt, me-abudhabi-4 shj"),
    ("oraclecloud35.com", "ap-chuncheon-2 bno, ap-seoul-2 dtz, ap-suwon-1 dln"),
    ("oraclecloud42.com", "us-ashburn-2 yxj, us-newark-1 pgc"),
    ("oraclecloud51.com", "eu-budapest-1 jsk"),
    ("oraclecloud52.com", "sa-riodejaneiro-1 hnw"),
];

/// The name, the short name and the domain of each region.
fn regions() -> impl Iterator<Item = [&'static str; 3]> {
    let of_domain = |(domain, regions): &(&'static str, &'static str)| {
        let domain = *domain;
        let names = regions.split(", ").filter_map(|region| region.split_once(' '));
        names.map(move |(name, short)| [name, short, domain])
    };
    REGIONS.iter().flat_map(of_domain)
}

/// The name of a region, of which the short name may be given. A text that is not in the table is
/// itself the name, as in Oracle's library.
pub(super) fn region_name(text: &str) -> String {
    let wanted = text.to_lowercase();
    let found = regions().find(|[name, short, _]| *name == wanted || *short == wanted);
    found.map_or(text, |[name, ..]| name).to_owned()
}

/// The host of a service in a region: of `identity`, `iaas` or `auth`.
pub(super) fn host(service: &str, region: &str) -> String {
    // With a dot it has its domain.
    if region.contains('.') {
        return format!("{service}.{region}");
    }
    let domain = regions().find(|[name, ..]| *name == region).map_or(DOMAIN, |[.., domain]| domain);
    // Identity has a name of its own kind.
    let oci = if service == "identity" { "oci." } else { "" };
    format!("{service}.{region}.{oci}{domain}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_have_names_and_hosts() {
        for (text, name, iaas) in [
            ("eu-frankfurt-1", "eu-frankfurt-1", "iaas.eu-frankfurt-1.oraclecloud.com"),
            ("PHX", "us-phoenix-1", "iaas.us-phoenix-1.oraclecloud.com"),
            ("ltn", "uk-gov-london-1", "iaas.uk-gov-london-1.oraclegovcloud.uk"),
            ("EU-Madrid-2", "eu-madrid-2", "iaas.eu-madrid-2.oraclecloud.eu"),
            ("eu-nowhere-9", "eu-nowhere-9", "iaas.eu-nowhere-9.oraclecloud.com"),
            ("r.example.org", "r.example.org", "iaas.r.example.org"),
        ] {
            assert_eq!(region_name(text), name);
            assert_eq!(host("iaas", name), iaas);
        }
        assert_eq!(host("identity", "us-phoenix-1"), "identity.us-phoenix-1.oci.oraclecloud.com");
        assert_eq!(regions().count(), 85);
    }
}
